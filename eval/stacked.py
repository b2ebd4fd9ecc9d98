"""A table too wide for its place as several, one under the other, of which each begins with the column of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH = 120
"""Characters a line where the output is no terminal."""
LABELS = 4
"""The column of the rows has at most this part of the width; longer names go on in a second line."""

Column = tuple[str, Sequence[str]]
"""A title, whose words may go on several lines, and the text of each row."""


def stacked(labels: Sequence[str], columns: Sequence[Column], title: str, caption: str, width: int) -> Any:
    """Rich tables of at most `width` characters, as few as hold all columns in their order, the title over the first,
    the caption under the last."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    first = min(_width("row", labels), width // LABELS)
    parts = _parts(columns, width - 1 - _framed(first))
    tables: list[Table] = []
    for i, part in enumerate(parts):
        made = Table(title=None if i else title, title_justify="left")
        made.add_column("row", width=first, overflow="fold")
        for name, cells in part:
            made.add_column(Text(name), width=_width(name, cells), justify="right")
        for label, *cells in zip(labels, *(cells for _, cells in part), strict=True):
            made.add_row(Text(label), *map(Text, cells))
        tables.append(made)
    return Group(*tables, Text(caption, "dim"))


def _parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns by table; one that is too wide for any is alone in its own."""
    parts: list[list[Column]] = [[]]
    left = room
    for column in columns:
        needed = _framed(_width(*column))
        if needed > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= needed
    return parts


def _width(name: str, cells: Sequence[str]) -> int:
    """Characters that neither a cell nor a word of the title exceeds."""
    from rich.cells import cell_len

    return max(map(cell_len, [*name.split(), *cells]))


def _framed(width: int) -> int:
    """With the blanks beside it and a line."""
    return width + 3
