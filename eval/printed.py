"""Figures from elsewhere that stand beside ours: a CSV file with one a line, and the source of each.

    row,case,measure,queries,value,sd,source

`row` is the label of ours that it is held against, or a name of its own; `queries` is empty where the figure is of the
end of a search; `value` is a number or, of a median that was not reached, a text (`>400`); `sd` over runs may be empty.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from collm_nas.api import UserError

HEADER = ("row", "case", "measure", "queries", "value", "sd", "source")


@dataclass(frozen=True, slots=True)
class Printed:
    """One figure."""

    row: str
    case: str
    measure: str
    queries: int | None
    value: str
    sd: float | None
    source: str

    @property
    def number(self) -> float | None:
        """The value where it is one."""
        try:
            found = float(self.value)
        except ValueError:
            return None
        return found if math.isfinite(found) else None

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit of the value."""
        return 0.5 * 10.0 ** -len(self.value.partition(".")[2]) + 1e-9

    @property
    def text(self) -> str:
        """`94.28` or `94.25 ± 0.02`."""
        return self.value if self.sd is None else f"{self.value} ± {self.sd:g}"


def read(path: Path) -> list[Printed]:
    """All of a file; UserError names the file and the line of what is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}, which the protocol names as `printed`, does not exist; put it there") from None
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} can't be read as UTF-8 text; give a CSV file") from None
    rows = csv.DictReader(lines)
    if tuple(rows.fieldnames or ()) != HEADER:
        raise UserError(f"{path}: the first line must be {','.join(HEADER)}")
    return [_one(row, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]


def _one(row: dict[str, str], place: str) -> Printed:
    if None in row or None in row.values() or not row["value"].strip():
        raise UserError(f"{place}: must have {len(HEADER)} cells and a value; see the first line")
    try:
        queries = int(row["queries"]) if row["queries"] else None
        sd = float(row["sd"]) if row["sd"] else None
    except ValueError:
        raise UserError(f"{place}: `queries` must be a whole number and `sd` a number, or empty") from None
    return Printed(row["row"], row["case"], row["measure"], queries, row["value"].strip(), sd, row["source"])
