"""Parquet files with images, as Hugging Face stores them: an image column of bytes, and a column of integer labels.

Only labels and schemas are read at first; images are read a row group at a time when they are decoded.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from collm_nas.api import UserError
from collm_nas.images.sources import TEST_NAMES, Encoded, Labelled, Source, check_classes

IMAGES, LABELS = ("image", "img"), ("label", "labels")
"""Names of the two columns: the first that is there."""
TOGETHER = 512  # images handed out at a time: enough for every thread, little memory
PARTS = ("train", *TEST_NAMES)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its file and place there, its first row there, and the number of that row in the store."""

    path: Path
    place: int
    row: int
    number: int


@dataclass(frozen=True, eq=False)
class Store:
    """The rows of some files, one after another."""

    column: str
    groups: list[Group] = field(default_factory=list)

    def name(self, number: int) -> str:
        """File and row in it, from 0."""
        (place,) = self._places([number])
        group = self.groups[place]
        return f"{group.path}, row {group.row + number - group.number}"

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Encoded]]]:
        """In the order of the rows."""
        places = self._places(numbers)
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        positions: list[int] = []
        images: list[Encoded] = []
        for place, members in itertools.groupby(order, key=places.__getitem__):
            group, wanted = self.groups[place], list(members)
            positions += wanted
            images += self._images(group, [numbers[position] - group.number for position in wanted])
            if len(positions) >= TOGETHER:
                yield positions, images
                positions, images = [], []
        yield positions, images

    def _places(self, numbers: Sequence[int]) -> list[int]:
        """In which group each image lies."""
        starts_G = [group.number for group in self.groups]
        return [int(after) - 1 for after in np.searchsorted(starts_G, numbers, side="right")]

    def _images(self, group: Group, rows: list[int]) -> list[Encoded]:
        table = _read(group.path, lambda file: file.read_row_group(group.place, columns=[self.column]))
        cells = table.column(0).take(rows).to_pylist()
        return [io.BytesIO((cell["bytes"] if isinstance(cell, dict) else cell) or b"") for cell in cells]


def is_parquet(path: Path) -> bool:
    """Whether a file begins like one."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def files(path: Path) -> list[Path]:
    """The Parquet files in a folder, or where there are none those in the folders in it; sorted."""
    return sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))


def read(path: Path, files: Sequence[Path]) -> Source:
    """The images of a file, or of the files in a folder; UserError where one, or a column, is not what it must be."""
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault("train" if file == path else _part(file), []).append(file)
    if "train" not in parts:
        raise UserError(f"{path}: it holds {files[0].name}, but no train-*.parquet; name the file to train on so")
    train = _labelled(parts["train"])
    classes = _names(parts["train"][0]) or tuple(map(str, range(int(train.labels_N.max(initial=-1)) + 1)))
    _check(path, "train", classes, train)
    check_classes(str(path), classes, train.labels_N)
    labelled = ((name, _labelled(parts[name])) for name in TEST_NAMES if name in parts)
    name, test = next(((name, part) for name, part in labelled if (part.labels_N >= 0).any()), ("", None))
    if test is not None:
        _check(path, name, classes, test)
    digest = hashlib.sha256("".join(f"{file.name}\t{file.stat().st_size}\n" for file in files).encode())
    return Source(path.resolve().name, classes, digest.hexdigest(), 3, train, test)


def _part(file: Path) -> str:
    """What the beginning of a file's name says, else its folder's name; `train` where neither says anything."""
    said = (re.split(r"[-_.]", file.name)[0], file.parent.name)
    return next((name for name in said if name in PARTS), "train")


def _labelled(paths: list[Path]) -> Labelled:
    import pyarrow

    image, label = _columns(paths[0])
    store = Store(image)
    labels = []
    total = 0
    for path in paths:
        if _columns(path) != (image, label):
            raise UserError(f"{path}: its columns are not those of {paths[0].name}; a part's files must be alike")
        column = _read(path, lambda file: file.read(columns=[label])).column(0)
        if column.null_count or not pyarrow.types.is_integer(column.type):
            raise UserError(f"{path}: column {label!r} must hold a whole number for every image, from 0")
        labels.append(column.to_numpy().astype(np.int64))
        store.groups.extend(_groups(path, total))
        total += len(column)
    return Labelled(store, np.concatenate(labels))


def _columns(path: Path) -> tuple[str, str]:
    """Names of the image and the label column."""
    import pyarrow

    schema = _read(path, lambda file: file.schema_arrow)
    for wanted in (IMAGES, LABELS):
        if not set(wanted) & set(schema.names):
            raise UserError(
                f"{path}: there is no column {wanted[0]!r} among {', '.join(schema.names)}; images are in a column "
                f"'image' (bytes, or a struct with bytes), whole numbers from 0 in a column 'label'"
            )
    image, label = (next(name for name in wanted if name in schema.names) for wanted in (IMAGES, LABELS))
    kind = schema.field(image).type
    if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise UserError(f"{path}: column {image!r} holds {kind}, but must hold bytes, or a struct with 'bytes'")
    return image, label


def _groups(path: Path, number: int) -> Iterator[Group]:
    """A file's row groups, if its first row is that number of the store."""
    metadata = _read(path, lambda file: file.metadata)
    row = 0
    for place in range(metadata.num_row_groups):
        yield Group(path, place, row, number + row)
        row += metadata.row_group(place).num_rows


def _names(path: Path) -> tuple[str, ...]:
    """Class names that `datasets` wrote beside the schema; none where it wrote none."""
    metadata = _read(path, lambda file: file.schema_arrow).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return tuple(features.get(_columns(path)[1], {}).get("names") or ())


def _check(path: Path, part: str, classes: Sequence[str], images: Labelled) -> None:
    for number in np.flatnonzero((images.labels_N < 0) | (images.labels_N >= len(classes)))[:1]:
        raise UserError(
            f"{images.store.name(int(number))}: label {images.labels_N[number]} is none of the {part} classes "
            f"0..{len(classes) - 1} of {path.name}; label every image, or remove the row"
        )


def _read(path: Path, what: Callable[[Any], Any]) -> Any:
    """What the function gives for the open file; UserError where it is no Parquet file, or damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return what(file)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not readable as Parquet ({reason}); copy it again") from None
