"""Published subnets scored by the published protocol, and held against the published figures."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from collm_nas import images, supernets
from collm_nas.api import UserError
from collm_nas.evaluators.supernet import on_device, space_of
from collm_nas.images.split import ImageData, Split
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.supernets import devices, protocols, published, store
from collm_nas.supernets.published import Published
from collm_nas.supernets.scoring import Score, Scorer

SEED = 0
"""Of the permutation whose first images are taken where not all are."""


@dataclass(frozen=True)
class Finding:
    """A published subnet and what was found; `tolerance` in percent, chance included; `agrees` is None where no
    accuracy is published."""

    subnet: Published
    score: Score
    tolerance: float
    agrees: bool | None


def verify(
    weights: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    space: str | None = None,
    limit: int | None = None,
    device: str | None = None,
) -> Iterator[Finding]:
    """A finding for each subnet that is published for the supernet of this file, as soon as it is scored on the
    validation images of `data`, or on `limit` random ones.

    UserError, before anything is scored, where the file is refused, nothing is published for its space, or the images
    are not of its classes or have no validation part.
    """
    path = store.find(weights)
    whole = space_of(path, space)
    subnets = published.of(whole.name)
    if not subnets:
        known = ", ".join(dict.fromkeys(subnet.space for subnet in published.PUBLISHED))
        raise UserError(f"no subnet of a supernet of {whole.name} is published; those that have some: {known}")
    where = devices.pick(device)
    opened = _images(data, limit)
    supernet = on_device(supernets.load(whole, path), where)
    scorer = Scorer(supernet, opened, protocols.named(subnets[0].protocol), where)
    return (_found(subnet, scorer, whole, limit is not None) for subnet in subnets)


def _images(data: str | os.PathLike[str], limit: int | None) -> ImageData:
    opened = images.open(data, valid=0)
    if opened.test is None:
        raise UserError(f"--data {data}: there are no validation images in it; give a folder with train/ and val/")
    if limit is None:
        return opened
    if not 1 <= limit <= len(opened.test):
        raise UserError(f"--images {limit} must be between 1 and {len(opened.test)}, the validation images of {data}")
    return dataclasses.replace(opened, test=_some(opened.test, limit))


def _some(split: Split, limit: int) -> Split:
    return split.take(np.random.RandomState(SEED).permutation(len(split))[:limit])


def _found(subnet: Published, scorer: Scorer, space: CategoricalSpace, sampled: bool) -> Finding:
    score = scorer.score(space.parse(subnet.arch), "test")
    if subnet.accuracy is None:
        return Finding(subnet, score, subnet.tolerance, None)
    tolerance = subnet.tolerance + (_chance(subnet.accuracy, score.images) if sampled else 0)
    return Finding(subnet, score, tolerance, abs(score.accuracy - subnet.accuracy) <= tolerance)


def _chance(accuracy: float, images: int) -> float:
    """Three standard errors of this accuracy on so many random images, in percent."""
    return 3 * math.sqrt(accuracy * (100 - accuracy) / images)
