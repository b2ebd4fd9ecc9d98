"""`table.md`: our figures with their 95 % intervals beside those printed elsewhere, and what to mind about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import copysign, inf, isfinite
from statistics import mean, stdev
from typing import Any

from eval import printed
from eval.measured import Figure, Measured
from eval.printed import Printed
from eval.study import FITNESS, QUERIES, TAU, Column, Layout, Study

FAR = 3.0
"""Standard errors of ours beyond which a printed mean is called another."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Ours and the printed one; at least one of the two."""

    row: str
    column: Column
    ours: Figure | None
    theirs: Printed | None

    @property
    def text(self) -> str:
        """`94.26 [94.20, 94.31] (94.28)`."""
        parts = [self.ours.text] if self.ours else []
        return " ".join(parts + ([f"({self.theirs.text})"] if self.theirs else []))

    @property
    def apart(self) -> float | None:
        """Ours minus theirs in standard errors of ours, beyond what rounding of theirs explains; None where that can't
        be said."""
        if self.ours is None or self.ours.mean is None or self.theirs is None or self.theirs.number is None:
            return None
        difference = self.ours.mean - self.theirs.number
        beyond = max(0.0, abs(difference) - self.theirs.rounding)
        if beyond == 0:
            return 0.0
        # Where every seed ended at one value, its error is zero but for the last bits.
        return copysign(beyond / self.ours.error if self.ours.error > 1e-9 else inf, difference)


def page(study: Study, measured: Sequence[Measured], changed: Sequence[str]) -> str:
    """The whole file."""
    found = printed.read(study.printed) if study.printed else []
    parts = [f"# {study.title}", _head(found, changed)]
    cells: list[Cell] = []
    for layout in layouts(study, measured):
        own = _cells(layout, measured, found)
        cells += own
        title = f"## {layout.title}\n\n" if layout.title else ""
        parts.append(title + (_matrices(study, layout, own) if len(study.grid) == 2 else _table(layout, own, measured)))
    parts += [_agreement(cells), _sources(found), _notes(study), _protocols(measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def layouts(study: Study, measured: Sequence[Measured]) -> tuple[Layout, ...]:
    """The file's tables, without columns of cases that were not run; by default one a case, or one of all rankings."""
    run = {one.case for one in measured}
    if study.tables:
        kept = (Layout(t.title, tuple(c for c in t.columns if c.case in run)) for t in study.tables)
        return tuple(layout for layout in kept if layout.columns)
    if study.kind == "ranking":
        return (Layout("", tuple(Column(one.case or "tau", one.case, TAU) for one in measured)),)
    return tuple(_default(one) for one in measured)


def _default(one: Measured) -> Layout:
    report = one.protocol.problem.report
    measure = report[0] if report else FITNESS
    stops: Iterable[int | None] = [q for q in one.protocol.checkpoints if q <= one.protocol.budget] or (None,)
    columns = [Column(f"{measure} at {q}" if q else measure, one.case, measure, q) for q in stops]
    return Layout(one.case, (*columns, Column("median queries to the best", one.case, QUERIES)))


def _cells(layout: Layout, measured: Sequence[Measured], found: Sequence[Printed]) -> list[Cell]:
    """Ours in their order, then the rows that are printed alone."""
    by_case = {one.case: one for one in measured}
    cells = []
    rows = dict.fromkeys(row.label for one in measured for row, _ in one.rows)
    rows |= dict.fromkeys(p.row for p in found if any(_speaks_of(p, column) for column in layout.columns))
    for column in layout.columns:
        ours = by_case[column.case].figures(column.measure, column.queries)
        theirs = {p.row: p for p in found if _speaks_of(p, column)}
        cells += [Cell(r, column, ours.get(r), theirs.get(r)) for r in rows if r in ours or r in theirs]
    return cells


def _speaks_of(figure: Printed, column: Column) -> bool:
    return (figure.case, figure.measure, figure.queries) == (column.case, column.measure, column.queries)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _head(found: Sequence[Printed], changed: Sequence[str]) -> str:
    told = "Means over seeds with 95 % bootstrap intervals."
    if found:
        told += " In parentheses, what is printed elsewhere (sources below)."
    return told + (f"\n\n**Not the protocol as it is committed:** {'; '.join(changed)}." if changed else "")


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def _table(layout: Layout, cells: Sequence[Cell], measured: Sequence[Measured]) -> str:
    seeds = {row.label: str(own.seeds) for one in measured for row, own in one.rows}
    at = {(cell.row, cell.column): cell.text for cell in cells}
    rows = [
        [row, seeds.get(row, ""), *(at.get((row, column), "") for column in layout.columns)]
        for row in dict.fromkeys(cell.row for cell in cells)
    ]
    return _markdown(["row", "seeds", *(column.title for column in layout.columns)], rows)


def _matrices(study: Study, layout: Layout, cells: Sequence[Cell]) -> str:
    """Of two options: one down, one across; then what is known of all cells together."""
    down, across = study.grid
    parts = []
    for column in layout.columns:
        at = {cell.row: cell for cell in cells if cell.column == column}
        rows = [
            [str(d), *(_text(at.get(f"{down}={d}:{across}={a}")) for a in study.grid[across])] for d in study.grid[down]
        ]
        header = [f"{down} \\ {across}", *map(str, study.grid[across])]
        parts.append(f"{column.title}:\n\n{_markdown(header, rows)}\n\n{_together(list(at.values()))}")
    return "\n\n".join(parts)


def _text(cell: Cell | None) -> str:
    return "" if cell is None else cell.text


def _together(cells: Sequence[Cell]) -> str:
    means = {cell.row: cell.ours.mean for cell in cells if cell.ours and cell.ours.mean is not None}
    alone = [f"{cell.row} {cell.theirs.text}" for cell in cells if cell.theirs and not cell.ours]
    told = f"Printed of all cells: {', '.join(alone)}. " if alone else ""
    if len(means) < 2:
        return told
    best = max(means, key=lambda row: means[row])
    return (
        f"{told}Ours: mean of {len(means)} cells {mean(means.values()):.2f}, deviation between them "
        f"{stdev(means.values()):.2f}, lowest {min(means.values()):.2f}, highest {means[best]:.2f} ({best}); a highest "
        "cell is chosen by what it reports, and so lies above what the same settings would bring again."
    )


def _agreement(cells: Sequence[Cell]) -> str:
    """Which printed means ours lie further from than three of our standard errors."""
    held = [(cell, cell.apart) for cell in cells if cell.apart is not None]
    if not held:
        return ""
    far = [(cell, apart) for cell, apart in held if abs(apart) > FAR]
    told = f"{len(held) - len(far)} of {len(held)} printed means lie within three of our standard errors."
    lines = [f"- {one.row}, {one.column.case} {one.column.title}: {one.text}, {_errors(apart)}" for one, apart in far]
    return "\n".join([told + (" Further away, in standard errors:" if far else ""), *([""] if far else []), *lines])


def _errors(apart: float) -> str:
    return f"{apart:+.1f}" if isfinite(apart) else "where all of our seeds are level"


def _sources(found: Sequence[Printed]) -> str:
    sources = dict.fromkeys(p.source for p in found if p.source)
    return "Printed figures: " + "; ".join(sources) + "." if sources else ""


def _notes(study: Study) -> str:
    return "\n".join(["To mind:", "", *(f"- {note}" for note in study.notes)]) if study.notes else ""


def _protocols(measured: Sequence[Measured]) -> str:
    said: dict[str, Any] = {
        f"- {one.case}: {one.described}" if one.case else f"- {one.described}": None for one in measured
    }
    return "\n".join(["Protocol:", "", *said])
