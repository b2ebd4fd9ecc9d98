"""Folders of images: train/CLASS/*.jpg with test/ or val/ beside it, or the classes' folders alone.

Only names and sizes are read here; hidden files, files of other kinds and folders inside a class's are passed over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collm_nas.api import UserError
from collm_nas.images.sources import TEST_NAMES, Encoded, Labelled, Source, check_classes

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, eq=False)
class Store:
    """Files under one folder, by their names relative to it."""

    root: str
    names: list[str]

    def name(self, number: int) -> str:
        """Its path."""
        return os.path.join(self.root, self.names[number])

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Encoded]]]:
        """All in one portion: paths cost nothing."""
        yield range(len(numbers)), [self.name(n) for n in numbers]


def read(path: Path) -> Source:
    """The images of a folder, in the order of their names; UserError where they are not sorted into classes, or a
    name cannot be read."""
    try:
        return _read(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); mend or remove it") from None


def _read(path: Path) -> Source:
    digest = hashlib.sha256()
    train_path = path / "train" if _folders(path / "train") else path
    classes = tuple(_folders(train_path))
    if not classes:
        raise UserError(f"{path}: {_without_classes(train_path)}")
    train = _labelled(train_path, classes, path, digest)
    check_classes(str(path), classes, train.labels_N)
    test_path = _test(path) if train_path != path else None
    test = None if test_path is None else _labelled(test_path, _same(test_path, classes), path, digest)
    if test is not None and not len(test.labels_N):
        raise UserError(f"{test_path}: its folders hold no images ({' '.join(SUFFIXES)}); add some, or remove them")
    return Source(path.resolve().name, classes, digest.hexdigest(), 3, train, test)


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none where it is no folder."""
    return sorted(e.name for e in _entries(path) if e.is_dir()) if path.is_dir() else []


def _without_classes(path: Path) -> str:
    if any(entry.name.lower().endswith(SUFFIXES) for entry in _entries(path)):
        return "its images are in no class; put those of each class into a folder of its own, named like the class"
    return f"it holds neither images ({' '.join(SUFFIXES)}) nor Parquet files; give train/CLASS/*.jpg"


def _test(path: Path) -> Path | None:
    """The test images' folder, if there is one that is sorted into classes (ImageNet's `test` is not)."""
    return next((path / name for name in TEST_NAMES if _folders(path / name)), None)


def _same(path: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes again; UserError where the test folder has others."""
    found = set(_folders(path))
    for name in sorted(found - set(classes)):
        raise UserError(f"{path}: class {name!r} is not among the train classes; name both alike, or remove it")
    for name in classes:
        if name not in found:
            raise UserError(f"{path}: there is no folder for the train class {name!r}; add it, or rename {path.name!r}")
    return classes


def _labelled(path: Path, classes: Sequence[str], root: Path, digest: hashlib._Hash) -> Labelled:
    names: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        prefix = os.path.relpath(path, root)
        for name, size in _images(path / folder):
            names.append(f"{folder}/{name}")
            labels.append(label)
            digest.update(os.fsencode(f"{prefix}/{folder}/{name}\t{label}\t{size}\n"))
    return Labelled(Store(os.fspath(path), names), np.array(labels, np.int64))


def _images(path: Path) -> list[tuple[str, int]]:
    """Names and sizes in bytes of a folder's images, sorted by name."""
    return sorted((e.name, e.stat().st_size) for e in _entries(path) if e.name.lower().endswith(SUFFIXES))


def _entries(path: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder and not hidden."""
    with os.scandir(path) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))
