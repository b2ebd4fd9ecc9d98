"""A case of a bench with its records, and the figures that its tables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import Any

from eval import bench, fronts, ranking, summary
from eval.metrics import Estimate, bootstrap, queries_with_interval
from eval.rows import MODEL_ROW, Row
from eval.study import FITNESS, QUERIES, TAU

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its interval and standard error; or, of queries, the censored median as a text."""

    text: str
    mean: float | None = None
    error: float = inf
    """Standard error of the mean."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """What was found on one case."""

    kind: str
    case: str
    protocol: bench.Protocol
    rows: tuple[tuple[Row, bench.Protocol], ...]
    records: list[Record]

    @property
    def reference(self) -> str:
        """The row that others are held against: the first `collm` without a changed part, else the first of all."""
        rows = [row for row, _ in self.rows]
        models = [row for row in rows if row.name == MODEL_ROW]
        whole = [row for row in models if "variant" not in dict(row.options)]
        return (whole or models or rows)[0].label

    @property
    def described(self) -> str:
        """The protocol in one line, with what rows have of their own."""
        told = self.protocol.describe()
        if self.kind == "ranking":  # which searches nothing
            told = {key: value for key, value in told.items() if key not in ("budget", "init", "batch")}
        said = bench.line(told)
        own = [f"{row.label}: {sizes}" for row, its in self.rows if (sizes := _sizes(its, self.protocol))]
        return " | ".join([said, *own])

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """A dict a row."""
        if self.kind == "ranking":
            return ranking.summarise(self.records, self.reference)
        if len(self.protocol.objective) > 1:
            return fronts.summarise(self.records, self.reference)
        return summary.summarise(self.records, self.protocol.budget, self.reference)

    def table(self, width: int) -> Any:
        """Tables for rich to print, of at most so many characters a line, with the protocol under them."""
        title = f"{self.case}: " if self.case else ""
        several = len(self.protocol.objective) > 1
        made = ranking.table if self.kind == "ranking" else fronts.table if several else summary.table
        return made(self.lines, self.described, title, width)

    def figures(self, measure: str, queries: int | None) -> dict[str, Figure]:
        """Row -> its figure, of the rows that have it."""
        by_row: dict[str, list[Record]] = {row.label: [] for row, _ in self.rows}
        for record in self.records:
            by_row[record["row"]].append(record)
        if measure == QUERIES:
            return {row: _median(own) for row, own in by_row.items() if own}
        values = {row: list(_values(own, measure, queries)) for row, own in by_row.items()}
        return {row: _figure(own, 3 if measure == TAU else 2) for row, own in values.items() if own}


def _sizes(own: bench.Protocol, whole: bench.Protocol) -> str:
    parts = [
        f"{name} {getattr(own, name)}"
        for name in ("budget", "init", "batch", "seeds")
        if getattr(own, name) != getattr(whole, name)
    ]
    return ", ".join(parts)


def _values(own: Sequence[Record], measure: str, queries: int | None) -> Iterable[float]:
    """Of the searches that went so far; the last value where no number of queries is asked for."""
    for record in own:
        if measure == TAU:
            yield record[TAU]
        elif queries is None:
            yield record["final"] if measure == FITNESS else record["report"][measure]
        elif str(queries) in record["checkpoints"]:
            yield record["checkpoints"][str(queries)][measure]


def _figure(values: Sequence[float], digits: int) -> Figure:
    found = bootstrap(values)
    n, mean = len(values), found.mean
    error = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else inf
    text = Estimate(mean, found.low, found.high).text(digits)
    return Figure(text, mean, error, found.low, found.high)


def _median(own: Sequence[Record]) -> Figure:
    longest = max(len(record["curve"]) for record in own)
    return Figure(queries_with_interval([record["queries"] for record in own], longest))
