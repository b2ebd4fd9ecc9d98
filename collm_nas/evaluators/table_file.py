"""A table file as columns of cells: CSV (also gzipped) or Parquet, told apart by their first bytes.

The standard library reads the CSV: every cell stays the text it is (`00120`, `none`), numbers round correctly.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

_DATA = Path(__file__).parent.parent / "data"
_BLANK = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class TableFile:
    """Columns by name; `lines` are the rows' numbers in the file, named `unit` there (`line` or `row`)."""

    name: str
    sha256: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]
    unit: str

    def where(self, row: int) -> str:
        """The place of a row, for errors."""
        return f"{self.name}, {self.unit} {self.lines[row]}"

    def is_numeric(self, column: str) -> bool:
        """Whether every cell is a number or blank, and one at least a number."""
        some = False
        for cell in self.columns[column]:
            value = number(cell)
            if value is None:
                return False
            some = some or not math.isnan(value)
        return some

    def numbers(self, column: str) -> list[int | float]:
        """The finite numbers of a column; UserError names the row of a cell that is none."""
        values: list[int | float] = []
        for row, cell in enumerate(self.columns[column]):
            value = number(cell)
            if value is None or not math.isfinite(value):
                raise UserError(
                    f"{self.where(row)}: column {column!r} holds {str(cell)[:40]!r}, which is no finite number"
                )
            values.append(value)
        return values


def number(cell: object) -> int | float | None:
    """The number in a cell, NaN where it is blank, None where it is neither."""
    if isinstance(cell, str):
        text = cell.strip()
        try:
            return (
                int(text) if text.lstrip("+-").isdecimal() and len(text) < 19 else None if "_" in text else float(text)
            )
        except ValueError:
            return math.nan if text.lower() in _BLANK else None
    if cell is None:
        return math.nan
    return cell if isinstance(cell, int | float) and not isinstance(cell, bool) else None


def built_in() -> dict[str, Path]:
    """The tables that come with the package, by name."""
    return {path.name.split(".")[0].replace("_", "-"): path for path in sorted(_DATA.glob("*.csv.gz"))}


def read(path_or_name: str | os.PathLike[str]) -> TableFile:
    """A built-in table by name or a file by path; UserError where it cannot be read as a table."""
    text = os.fspath(path_or_name)
    path = built_in().get(text, Path(text))
    name = text if text in built_in() else path.name
    data = _bytes(path, text)
    digest = hashlib.sha256(data).hexdigest()
    if data[:4] == b"PAR1":
        columns, lines, unit = *_parquet(data, name), "row"
    else:
        columns, lines, unit = *_csv(_text(data, name), name), "line"
    if not lines:
        raise UserError(f"{name}: the table has no rows; give one row an architecture under a header")
    return TableFile(name, digest, columns, lines, unit)


def _bytes(path: Path, text: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        names = list(built_in())
        close = difflib.get_close_matches(text, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(
            f"table {text!r}: no such file; give a CSV or Parquet file or the name of a built-in table "
            f"({', '.join(names) or 'none'}){hint}"
        ) from None
    except OSError as error:
        raise UserError(f"table {text!r}: cannot be read ({error.strerror}); give a CSV or Parquet file") from None


def _text(data: bytes, name: str) -> str:
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{name}: the gzip file is damaged or cut; copy it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text (byte {error.start}); a table is CSV(.gz) or Parquet") from None


def _csv(
    text: str, name: str
) -> tuple[
    dict[str, list[Any]],
    list[int],
]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header, name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{name}, line {reader.line_num}: {len(cells)} cells, but the header has {len(header)}; "
                    "give every row one cell a column"
                )
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: not readable as CSV ({error}); mend the line") from None
    return {column: list(cells) for column, cells in zip(header, zip(*rows, strict=True), strict=False)}, lines


def _parquet(data: bytes, name: str) -> tuple[dict[str, list[Any]], Sequence[int]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{name}: not readable as Parquet ({' '.join(str(error).split())[:120]})") from None
    _check_header(table.column_names, name)
    columns = {column: table.column(i).to_pylist() for i, column in enumerate(table.column_names)}
    return columns, range(1, table.num_rows + 1)


def _check_header(header: Sequence[str], name: str) -> None:
    if not any(header):
        raise UserError(f"{name}: the table is empty; its first line must name the columns (arch, ...)")
    for column in header:
        if header.count(column) > 1:
            raise UserError(f"{name}: column {column!r} appears twice; column names must be unique")
