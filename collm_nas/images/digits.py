"""The built-in images: scikit-learn's 1,797 handwritten digits, 8x8 and gray."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from collm_nas.images.sources import Encoded, Labelled, Source

NAME = "digits"
TEST = 400  # always the same images, whatever the seed of a search
TEST_SEED = 0


class Store:
    """Gray images in memory, handed out as PGM files."""

    def __init__(self, pixels_NHW: NDArray[np.uint8]) -> None:
        self.pixels_NHW = pixels_NHW

    def name(self, number: int) -> str:
        """Its position after the cut into train and test."""
        return f"{NAME}, image {number}"

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Encoded]]]:
        """All in one portion."""
        _, height, width = self.pixels_NHW.shape
        header = f"P5 {width} {height} 255\n".encode()
        yield range(len(numbers)), [io.BytesIO(header + self.pixels_NHW[n].tobytes()) for n in numbers]


def read() -> Source:
    """The digits with their values 0..16 as bytes; the test images are the last of NumPy's `RandomState(0)` order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(TEST_SEED).permutation(len(digits.target))
    pixels_NHW = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
    labels_N = digits.target[order].astype(np.int64)
    train, test = (Labelled(Store(pixels_NHW[cut]), labels_N[cut]) for cut in (slice(-TEST), slice(-TEST, None)))
    digest = hashlib.sha256(pixels_NHW.tobytes() + labels_N.astype(np.uint8).tobytes()).hexdigest()
    return Source(NAME, tuple("0123456789"), digest, 1, train, test)
