"""Images cut into train, valid and test: by a seed, without overlap, alike on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import UserError
from collm_nas.images import memory
from collm_nas.images.inputs import Inputs
from collm_nas.images.sources import Labelled, Source

if TYPE_CHECKING:
    from torch import Tensor

FEW = 8
"""Images whose size stands for all."""
Key = tuple[int, int | None, str, str]
"""What decoded pixels depend on of `Inputs`."""


@dataclass(frozen=True, eq=False)
class Split:
    """Some labelled images, in an order of their own. Pixels are decoded when first asked for, then kept."""

    images: Labelled = field(repr=False)
    numbers_N: NDArray[np.int64] = field(repr=False)
    _parent: tuple[Split, NDArray[np.int64]] | None = field(default=None, repr=False)
    _kept: dict[Key, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.numbers_N)

    @property
    def labels(self) -> Tensor:
        """Positions in the classes (N,), long."""
        import torch

        return torch.from_numpy(self.images.labels_N[self.numbers_N])

    def take(self, indices: Sequence[int] | NDArray[np.int64] | Tensor | slice) -> Split:
        """The images at these positions; they share what is decoded already."""
        places_N = np.arange(len(self))[np.asarray(indices, np.int64) if not isinstance(indices, slice) else indices]
        return Split(self.images, self.numbers_N[places_N], (self, places_N))

    def pixels(self, inputs: Inputs) -> Tensor:
        """Bytes (N, C, side, side) as a network wants them; the tensor is kept and shared, so do not write to it.

        Raises UserError where an image is damaged or of a kind that is not supported.
        """
        from collm_nas.images import decode

        key = (inputs.side, inputs.resize, inputs.filter, inputs.order)
        at_hand = self._at_hand(key)
        if at_hand is None:
            self._make_room(inputs)
            at_hand = decode.pixels(self.images.store, self.numbers_N.tolist(), inputs)
        self._kept[key] = at_hand
        return at_hand

    def augmented(self, inputs: Inputs, augmentation: Literal["ofa", "spos"], seed: int) -> Tensor:
        """Bytes (N, C, side, side) under random crops, flips and colours that depend on the seed and the position
        alone: what official codes re-calibrate BatchNorm on. Not kept."""
        from collm_nas.images import augment, decode

        self._make_room(inputs)
        return decode.pixels(
            self.images.store, self.numbers_N.tolist(), inputs, augment.random_view(inputs, augmentation, seed)
        )

    def _at_hand(self, key: Key) -> Tensor | None:
        """Pixels that were decoded for this split, or for one that it was taken from."""
        if key in self._kept or self._parent is None:
            return self._kept.get(key)
        whole, places_N = self._parent
        pixels_NCHW = whole._at_hand(key)
        return None if pixels_NCHW is None else pixels_NCHW[places_N]

    def _make_room(self, inputs: Inputs) -> None:
        """Lets go of what is kept for other inputs if memory is short; UserError where that is not enough."""
        needed = len(self) * inputs.channels * inputs.side**2
        if needed > memory.free_bytes():
            self._kept.clear()
        if needed > (free := memory.free_bytes()):
            raise UserError(
                f"{len(self):,} images of {inputs.side} x {inputs.side} take {needed / 1e9:.1f} GB decoded, but "
                f"{free / 1e9:.1f} GB may be used; take at most {int(free * len(self) / needed):,} (limit, valid)"
            )


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set, split. `test` is read once, for winners; it is None where the source has no images set aside."""

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split | None
    digest: str
    channels: int
    seed: int
    held_out: float
    limit: int | None

    @property
    def side_hint(self) -> int | None:
        """The side in pixels if the first few train images are squares of one size, else None."""
        from collm_nas.images import decode

        sizes = set(decode.sizes(self.train.images.store, self.train.numbers_N[:FEW].tolist()))
        (width, height), *others = sizes
        return width if width == height and not others else None

    def describe(self) -> dict[str, Any]:
        """JSON values that identify data and split, for a line in a protocol."""
        sizes = {
            "train": len(self.train),
            "valid": len(self.valid),
            "test": None if self.test is None else len(self.test),
        }
        return {
            "name": self.name, "digest": self.digest, "classes": len(self.classes), "images": sizes,
            "seed": self.seed, "valid": self.held_out, "limit": self.limit,
        }  # fmt: skip


def cut(source: Source, *, valid: float, seed: int, limit: int | None) -> ImageData:
    """The source with `valid` of its train images held out, and at most `limit` of the others kept; see `open`.

    The order is NumPy's `RandomState(seed)`, whose stream is frozen; both splits keep it, so that their beginnings are
    random samples of them.
    """
    total = len(source.train.labels_N)
    held = _held_out(source.name, total, valid)
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: at least one image must be left to train on; give a number from 1, or none")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed}: the split of the images takes a number from 0 to {2**32 - 1}")
    order_N = np.random.RandomState(seed).permutation(total)
    train = Split(source.train, order_N[held:][:limit])
    test = None if source.test is None else Split(source.test, np.arange(len(source.test.labels_N)))
    return ImageData(
        source.name, source.classes, train, Split(source.train, order_N[:held]), test,
        source.digest, source.channels, seed, valid, limit,
    )  # fmt: skip


def _held_out(name: str, total: int, valid: float) -> int:
    """Number of valid images among the train images of a source."""
    if not valid >= 0 or (valid >= 1 and not float(valid).is_integer()):
        raise UserError(f"valid {valid}: give a share below 1, or a whole number of images")
    held = int(valid) if valid >= 1 else round(valid * total)
    if valid and not held:
        raise UserError(f"{name}: valid {valid} of {total} train images is none; give a larger share, or 0")
    if held >= total:
        raise UserError(
            f"{name}: {held} valid images cannot be held out of {total} train images; give a smaller number or share"
        )
    return held
