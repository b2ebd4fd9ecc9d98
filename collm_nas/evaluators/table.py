"""Architectures looked up in a table: one column the search may see, others that are read once, for the winner.

A table has the column `arch` (native encoding, read as text) or one column a variable, and numeric columns; it may
cover a part of the space, and then its rows are the legal architectures.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from collm_nas.api import Architecture, Evaluation, SearchSpace, UserError
from collm_nas.evaluators import table_file
from collm_nas.evaluators.table_file import TableFile

COSTS = ("flops", "params", "latency")


class _Restrictable(Protocol):
    def restrict(self, archs: Iterable[Architecture]) -> SearchSpace:
        """The same space with only these architectures legal."""


@dataclass(frozen=True)
class TableEvaluator:
    """`api.Evaluator` over a table's rows; `space` is restricted to them where they are not the whole space."""

    space: SearchSpace
    rows: dict[Architecture, int]
    fitness: list[float]
    cost_columns: dict[str, list[int | float]]
    report_columns: dict[str, list[int | float]]
    name: str
    about: dict[str, Any]

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """The fitness and costs of each; UserError for an architecture without a row."""
        return [Evaluation(self.fitness[self._row(a)], self.costs(a), source=self.name) for a in archs]

    def costs(self, arch: Architecture) -> dict[str, float]:
        """What the columns `flops`, `params` and `latency` say, where the table has them."""
        row = self._row(arch)
        return {column: values[row] for column, values in self.cost_columns.items()}

    def report(self, arch: Architecture) -> dict[str, float]:
        """The report columns, for the winner."""
        row = self._row(arch)
        return {column: values[row] for column, values in self.report_columns.items()}

    def best(self) -> float:
        """The highest fitness of all rows."""
        return max(self.fitness)

    def protocol(self) -> dict[str, Any]:
        """The table's name and hash, how much of the space it covers, and what was read from it."""
        return dict(self.about)

    def _row(self, arch: Architecture) -> int:
        if arch not in self.rows:
            raise UserError(f"{self.name}: no row for {self.space.format(arch)!r}; propose rows of the table only")
        return self.rows[arch]


def load(
    space: SearchSpace,
    path_or_name: str | os.PathLike[str],
    fitness: str | None = None,
    report: Sequence[str] = (),
) -> TableEvaluator:
    """A table for this space; UserError names the row and column of whatever is wrong with it.

    `fitness` may be None where the table has one numeric column besides costs.
    """
    file = table_file.read(path_or_name)
    rows = _architectures(space, file)
    variables = {variable.name for variable in space.variables}
    metrics = [column for column in file.columns if column != "arch" and column not in variables]
    fitness = the_fitness(file, metrics, fitness)
    report = [_known(column, metrics, file) for column in dict.fromkeys(report)]
    costs = [column for column in COSTS if column in metrics]
    return TableEvaluator(
        space=space if len(rows) == space.size else cast(_Restrictable, space).restrict(rows),
        rows=rows,
        fitness=[float(value) for value in file.numbers(fitness)],
        cost_columns={column: _costs(file, column) for column in costs},
        report_columns={column: file.numbers(column) for column in report},
        name=file.name,
        about={
            "source": "table",
            "table": file.name,
            "sha256": file.sha256,
            "rows": len(rows),
            "size": space.size,
            "covers": len(rows) / space.size,
            "fitness": fitness,
            "report": report,
            "costs": costs,
            "columns": list(file.columns),
            "source_hashes": [file.sha256],
        },
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _architectures(space: SearchSpace, file: TableFile) -> dict[Architecture, int]:
    """Architecture -> row; each at most once."""
    rows: dict[Architecture, int] = {}
    for row, arch in enumerate(architectures(space, file)):
        if arch in rows:
            raise UserError(
                f"{file.where(row)}: {space.format(arch)!r} is the architecture of {file.unit} "
                f"{file.lines[rows[arch]]} again; keep one of the two"
            )
        rows[arch] = row
    return rows


def architectures(space: SearchSpace, file: TableFile) -> Iterator[Architecture]:
    """The architecture of every row, by its column `arch` or its variables'; UserError names the row of one that is
    none."""
    return _from_text(space, file) if "arch" in file.columns else _from_variables(space, file)


def _parse(space: SearchSpace, encoded: object, file: TableFile, row: int) -> Architecture:
    try:
        return space.parse(encoded)
    except ValueError as error:
        raise UserError(f"{file.where(row)}: {error}") from None


def _from_text(space: SearchSpace, file: TableFile) -> Iterator[Architecture]:
    beside = [(i, v) for i, v in enumerate(space.variables) if v.name in file.columns]
    for row, text in enumerate(file.columns["arch"]):
        if not isinstance(text, str):
            raise UserError(
                f"{file.where(row)}: column 'arch' must hold text, but got {str(text)[:40]!r}; store it as text"
            )
        arch = _parse(space, text, file, row)
        active = space.active(arch.choices) if beside else ()
        for i, variable in beside:
            said, meant = file.columns[variable.name][row], variable.choices[arch.choices[i]]
            if active[i] and not _same(said, meant):
                raise UserError(
                    f"{file.where(row)}: column {variable.name!r} says {str(said)[:40]!r}, but 'arch' says {meant!r}; "
                    "make them agree"
                )
        yield arch


def _from_variables(space: SearchSpace, file: TableFile) -> Iterator[Architecture]:
    names = [variable.name for variable in space.variables]
    for name in names:
        if name not in file.columns:
            raise UserError(
                f"{file.name}: a table needs a column 'arch' or one column a variable ({', '.join(names)}); it has "
                f"{', '.join(file.columns)}"
            )
    for row, cells in enumerate(zip(*(file.columns[name] for name in names), strict=True)):
        # A blank cell is a variable that is left out: right where it is inactive.
        given = {name: _cell(cell) for name, cell in zip(names, cells, strict=True) if _cell(cell) not in ("", None)}
        yield _parse(space, given, file, row)


def _cell(cell: object) -> object:
    return cell.strip() if isinstance(cell, str) else cell


def _same(said: object, meant: str) -> bool:
    return (
        _cell(said) == meant or str(said) == meant or (not isinstance(said, str) and said == table_file.number(meant))
    )


# --- columns ----------------------------------------------------------------------------------------------------------


def the_fitness(file: TableFile, metrics: Sequence[str], named: str | None) -> str:
    """The column of this name, or the only numeric one besides costs; UserError where it is none of `metrics`."""
    return _the_one_metric(file, metrics) if named is None else _known(named, metrics, file)


def _the_one_metric(file: TableFile, metrics: Sequence[str]) -> str:
    numeric = [column for column in metrics if column not in COSTS and file.is_numeric(column)]
    if len(numeric) != 1:
        has = f"has {len(numeric)} numeric columns besides costs ({', '.join(numeric)})" if numeric else "has none"
        raise UserError(
            f"{file.name}: name the fitness column (--fitness COL): only a table with one may leave it out, it {has}"
        )
    return numeric[0]


def _known(column: str, metrics: Sequence[str], file: TableFile) -> str:
    if column not in metrics:
        close = difflib.get_close_matches(column, metrics, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"{file.name}: no metric column {column!r}; it has {', '.join(metrics) or 'none'}{hint}")
    return column


def _costs(file: TableFile, column: str) -> list[int | float]:
    values = file.numbers(column)
    for row, value in enumerate(values):
        if value < 0:
            raise UserError(f"{file.where(row)}: column {column!r} holds {value}; a cost must be zero or more")
    return values
