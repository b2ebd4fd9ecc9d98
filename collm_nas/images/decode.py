"""Encoded images to bytes of the size a network wants: decoded by Pillow in threads, scaled as the official codes do.

Scaling follows torchvision's `Resize` and `CenterCrop` on Pillow images, rounding included. As there, an orientation
noted in EXIF is not applied, and transparency is dropped.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from collm_nas.api import UserError
from collm_nas.images import opencv
from collm_nas.images.inputs import Inputs
from collm_nas.images.sources import Encoded, Store

if TYPE_CHECKING:
    from torch import Tensor

PORTION = 64  # images a thread takes at a time
SMALL = 64 * 64  # pixels below which threads lose more to Python's lock than they win
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are cut, damaged, no images, or of a kind that it cannot convert."""

View = Callable[[Image.Image, int], Image.Image]
"""From an image, in the mode of the channels, and its position among those asked for, to one of side x side."""


def pixels(store: Store, numbers: Sequence[int], inputs: Inputs, view: View | None = None) -> Tensor:
    """Bytes (N, C, side, side) of these images in their order; `view` is `fit` where not given. UserError names an
    image that cannot be decoded."""
    import torch

    out_NCHW = torch.empty(len(numbers), inputs.channels, inputs.side, inputs.side, dtype=torch.uint8)
    array_NCHW = out_NCHW.numpy()
    seen = view or (lambda image, _: fit(image, inputs))

    def work(portion: list[tuple[int, Encoded]]) -> None:
        for position, encoded in portion:
            with _opened(encoded, store, numbers[position]) as file:
                image = _mode(file, inputs)
            array_NCHW[position] = _channels_first(seen(image, position), inputs)

    with ThreadPoolExecutor(_threads(store, numbers)) as pool:
        for positions, files in store.read(numbers):
            for _ in pool.map(work, _portions(list(zip(positions, files, strict=True)))):
                pass
    return out_NCHW


def sizes(store: Store, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Width and height of each, from the files' heads alone."""
    for positions, files in store.read(numbers):
        for position, encoded in zip(positions, files, strict=True):
            with _opened(encoded, store, numbers[position]) as image:
                yield image.size


@contextmanager
def _opened(encoded: Encoded, store: Store, number: int) -> Iterator[Image.Image]:
    """The image while it is open; UserError with its name where it cannot be opened, or decoded inside."""
    try:
        with Image.open(encoded) as image:
            yield image
    except DAMAGE as error:
        reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise UserError(f"{store.name(number)}: cannot be decoded ({reason[:120]}); replace or remove it") from None


def fit(image: Image.Image, inputs: Inputs) -> Image.Image:
    """The image scaled so that its centre, of side x side, is what the network sees."""
    if inputs.resize is None:
        return _scaled(image, (inputs.side, inputs.side), inputs)
    image = _scaled(image, _target(image.size, inputs.resize, inputs), inputs)
    left, top = (round((length - inputs.side) / 2) for length in image.size)
    return image.crop((left, top, left + inputs.side, top + inputs.side))


def _target(size: tuple[int, int], shorter: int, inputs: Inputs) -> tuple[int, int]:
    """Width and height after scaling: torchvision cuts off the longer one's fraction, SPOS's OpenCV code rounds it."""
    width, height = size
    half = 0.5 if inputs.filter == "opencv" else 0
    if width <= height:
        return shorter, int(shorter * height / width + half)
    return int(shorter * width / height + half), shorter


def _scaled(image: Image.Image, size: tuple[int, int], inputs: Inputs) -> Image.Image:
    if image.size == size:
        return image
    if inputs.filter == "opencv":
        return opencv.resize(image, size)
    return image.resize(size, FILTERS[inputs.filter])


def _mode(image: Image.Image, inputs: Inputs) -> Image.Image:
    """The image as bytes of one channel or three; ValueError for numbers whose range nobody knows."""
    if image.mode.startswith("I;16"):
        high_HW = np.asarray(image) >> 8  # as Pillow itself reads colour images of 16 bits; its conversion clips
        image = Image.fromarray(high_HW.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers without a known range; save it with 8 or 16 bits a channel")
    if image.mode == "P":
        image = image.convert("RGBA")  # transparency of a palette: Pillow warns where it is dropped in one step
    return image.convert("L" if inputs.order == "gray" else "RGB")


def _channels_first(image: Image.Image, inputs: Inputs) -> NDArray[np.uint8]:
    """(C, H, W), in the order of channels that the network wants."""
    array = np.asarray(image)
    if inputs.order == "gray":
        return array[None]
    return (array[:, :, ::-1] if inputs.order == "BGR" else array).transpose(2, 0, 1)


def _portions(items: list[tuple[int, Encoded]]) -> Iterator[list[tuple[int, Encoded]]]:
    return (items[start : start + PORTION] for start in range(0, len(items), PORTION))


def _threads(store: Store, numbers: Sequence[int]) -> int:
    """One a core, but only one where the first image is small."""
    for width, height in sizes(store, numbers[:1]):
        return len(os.sched_getaffinity(0)) if width * height >= SMALL else 1
    return 1
