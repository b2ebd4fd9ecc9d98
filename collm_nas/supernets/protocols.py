"""How a subnet is scored on images: which ones, how its BatchNorm statistics are measured first, in what precision.

`fast` is the default and ours: statistics from 512 training images in one pass, accuracy on images held out of the
training set. The others are those of the official searches (the code at the commits that each supernet's file names),
on the same images for every candidate and never on the test set:

- `ofa`: 2,000 training images in augmented batches of 200, cached; accuracy on 10,000 held out of the training set.
- `spos`: 200 augmented batches of 128 training images from reset statistics; accuracy on 8,000 held out of the training
  set. The official code takes a moving window of the *validation* folder instead, so that its candidates are not scored
  on the same images.
- `autoformer`: no BatchNorm; accuracy on 100 training images a class, which the supernet was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from collm_nas.api import UserError
from collm_nas.images.split import ImageData, Split

FAST_VALID = 5000
FAST_CALIBRATION = 512
FAST_BATCH = 128


@dataclass(frozen=True)
class Protocol:
    """One way to score. `calibration` images come in batches of `batch`; the procedure `average` is ours."""

    name: str
    calibration: int
    batch: int
    procedure: Literal["average", "ofa", "spos"]
    augmentation: Literal["ofa", "spos"] | None
    half: bool
    """Float16 where the device is a GPU."""
    split: Callable[[ImageData], tuple[Split, Split]]
    """Calibration and valid images of a data set."""


def _fast(data: ImageData) -> tuple[Split, Split]:
    return data.train.take(slice(FAST_CALIBRATION)), data.valid.take(slice(FAST_VALID))


def _ofa(data: ImageData) -> tuple[Split, Split]:
    """The first of two permutations of the whole training set, whose seeds are the official ones."""
    return _numbered(data, _permuted(data, 937162211)[:2000]), _numbered(data, _permuted(data, 2147483647)[:10_000])


def _spos(data: ImageData) -> tuple[Split, Split]:
    order_N = _permuted(data, 0)
    return _numbered(data, order_N[8000 : 8000 + 200 * 128]), _numbered(data, order_N[:8000])


def _autoformer(data: ImageData) -> tuple[Split, Split]:
    rng, labels_N = random.Random(0), data.train.images.labels_N
    chosen: list[int] = []
    for label in range(len(data.classes)):
        own = np.flatnonzero(labels_N == label).tolist()
        rng.shuffle(own)
        chosen += own[:100]
    return data.train.take(slice(0)), _numbered(data, np.array(chosen))


def _permuted(data: ImageData, seed: int) -> NDArray[np.int64]:
    order_N: NDArray[np.int64] = torch.randperm(
        len(data.train.images.labels_N), generator=torch.Generator().manual_seed(seed)
    ).numpy()
    return order_N


def _numbered(data: ImageData, numbers_N: NDArray[np.int64]) -> Split:
    """Images of the whole training set by their numbers in the sorted listing."""
    return Split(data.train.images, numbers_N)


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("fast", FAST_CALIBRATION, FAST_BATCH, "average", None, True, _fast),
        Protocol("ofa", 2000, 200, "ofa", "ofa", False, _ofa),
        Protocol("spos", 200 * 128, 128, "spos", "spos", False, _spos),
        Protocol("autoformer", 0, 256, "ofa", None, True, _autoformer),
    )
}


def named(name: str) -> Protocol:
    """The protocol of this name; UserError names the legal ones."""
    if name not in PROTOCOLS:
        raise UserError(f"--protocol {name!r} is unknown; legal: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
