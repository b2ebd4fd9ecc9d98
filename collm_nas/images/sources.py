"""Where labelled images come from: what every source offers, and which one a user's text means."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import UserError

TEST_NAMES = ("test", "validation", "val")
"""Parts that are test images: the first that is there and labelled. What a search is scored on is held out of train."""

Encoded = str | io.BytesIO
"""An image as Pillow opens it: a path, or a file's bytes."""


class Store(Protocol):
    """Encoded images by their number, from 0."""

    def name(self, number: int) -> str:
        """Where the user finds it, for errors."""

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Encoded]]]:
        """These images in portions that are worth reading together: positions in `numbers`, and an image for each."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with a class each: `labels_N` are positions in the source's classes, by the image's number."""

    store: Store
    labels_N: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """Everything known of a data set before it is split."""

    name: str
    classes: tuple[str, ...]
    digest: str
    channels: int
    train: Labelled
    test: Labelled | None


def read(source: str | os.PathLike[str]) -> Source:
    """The built-in digits by their name, else a folder of images or Parquet files, or one Parquet file."""
    from collm_nas.images import digits, folder, parquet

    text = os.fspath(source)
    if text == digits.NAME:
        return digits.read()
    path = Path(text).expanduser()
    if not path.exists():
        raise UserError(
            f"images {text!r}: there is no such folder; give a folder with train/CLASS/*.jpg, a Parquet file or a "
            f"folder of them, or {digits.NAME!r} for the built-in ones"
        )
    if path.is_file() and not parquet.is_parquet(path):
        raise UserError(f"images {text!r}: it is neither a folder nor a Parquet file; unpack an archive first")
    files = [path] if path.is_file() else parquet.files(path)
    return parquet.read(path, files) if files else folder.read(path)


def check_classes(where: str, classes: Sequence[str], labels_N: NDArray[np.int64]) -> None:
    """UserError where there is no image, there are no two classes, or a class has no train image."""
    if not len(labels_N):
        raise UserError(f"{where}: there are no train images in it; give train/CLASS/*.jpg, or Parquet files with rows")
    counts = np.bincount(labels_N, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise UserError(f"{where}: class {empty[0]!r} has no train images; add some, or remove the class")
    if len(classes) < 2:
        raise UserError(f"{where}: {classes[0]!r} is the only class; a network needs at least two to tell apart")
