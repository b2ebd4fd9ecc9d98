"""A protocol file as a value: what all the options of `bench` would say, in one YAML file that can be named and cited.

    title: rivals by validation accuracy
    problem: table
    space: nasbench201
    budget: 300
    checkpoints: [50, 100]                  # what a search of so many queries would have handed over
    rows:
      - random                              # as in --rows
      - {row: local-search, label: climber, init: 0}     # init, batch, budget, seeds of its own
    grid: {navigator_temperature: [0.5, 1]} # or: the row collm with each of these options
    cases:                                  # the same for several columns; without, one search a row and seed
      C10: {fitness: cifar10/valid@200, report: [cifar10/test@200]}
    printed: printed.csv                    # figures from elsewhere, beside the file (`eval.printed`)
    tables:                                 # of table.md; without, one a case
      - title: Table 4
        columns: [{title: C10 test, case: C10, measure: cifar10/test@200, queries: 100}]
    notes: [what to mind when reading the table]

All other keys are options of `bench` without their dashes (`max-flops`, `relabel`). `kind: ranking` is no search: the
rows put ten architectures in order (`eval.ranking`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

KINDS = ("search", "ranking")
PROBLEM = {
    "problem": str, "space": str, "table": str, "supernet": str, "data": str, "fitness": str, "report": list,
    "variables": int, "cap_quantile": float, "relabel": bool, "max_flops": float, "max_params": float,
    "max_latency": float,
}  # fmt: skip
SIZES = {"budget": int, "init": int, "batch": int, "seeds": int}
MODEL = {
    "model": str, "preset": str, "temperature": float, "top_p": float, "sampling": str, "decoding": str,
    "encoding": str, "strategies": int,
}  # fmt: skip
OPTIONS: dict[str, type] = {**PROBLEM, **SIZES, **MODEL, "objective": list}
"""Options of `bench` that a file may say, and what each is."""
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list of texts"}
_OWN = ("title", "kind", "checkpoints", "rows", "grid", "cases", "printed", "tables", "notes")
FITNESS, QUERIES, TAU = "fitness", "queries", "tau"
"""Measures that are no report column: the best fitness, queries to the best known value, rank correlation."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A row as in `--rows`, its name in the table, and its own init, batch, budget or seeds."""

    text: str
    label: str
    own: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `table.md`: a measure of a case, at so many queries (None: at the end)."""

    title: str
    case: str
    measure: str
    queries: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """A table of `table.md`."""

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """What a protocol file says."""

    name: str
    title: str
    kind: str
    options: dict[str, Any]
    rows: tuple[StudyRow, ...]
    grid: dict[str, tuple[Any, ...]]
    cases: dict[str, dict[str, Any]]
    """Name of a case -> the options that are its own; of a file without cases, one without a name."""
    checkpoints: tuple[int, ...]
    tables: tuple[Layout, ...]
    printed: Path | None
    notes: tuple[str, ...]


def read(said: Any, source: Path) -> Study:
    """The study of a file's mapping; UserError names file, key and what is legal."""
    place = str(source)
    top = _mapping(said, place, (*_OWN, *OPTIONS))
    kind = _plain(top.get("kind", "search"), str, f"{place}: `kind`")
    if kind not in KINDS:
        raise UserError(f"{place}: `kind` {kind!r} is unknown; legal: {', '.join(KINDS)}")
    grid = {key: _some(values, f"{place}: grid `{key}`") for key, values in _names(top, "grid", place)}
    if grid and top.get("rows"):
        raise UserError(f"{place}: `grid` makes the rows, so that `rows` has no place beside it; leave one of them out")
    cases = {name: _options(own, f"{place}: case {name!r}", PROBLEM) for name, own in _names(top, "cases", place)}
    rows = [_row(row, f"{place}: rows[{i}]") for i, row in enumerate(_list(top, "rows", place))] + _on_grid(grid)
    _check_labels(rows, place)
    printed = top.get("printed")
    return Study(
        name=source.stem,
        title=_plain(top.get("title", source.stem), str, f"{place}: `title`"),
        kind=kind,
        options=_options({k: v for k, v in top.items() if k not in _OWN}, place, OPTIONS),
        rows=tuple(rows),
        grid=grid,
        cases=cases or {"": {}},
        checkpoints=tuple(_plain(q, int, f"{place}: `checkpoints`") for q in _list(top, "checkpoints", place)),
        tables=tuple(_layout(one, f"{place}: tables[{i}]", cases) for i, one in enumerate(_list(top, "tables", place))),
        printed=None if printed is None else source.parent / _plain(printed, str, f"{place}: `printed`"),
        notes=tuple(_plain(note, str, f"{place}: `notes`") for note in _list(top, "notes", place)),
    )


def _row(said: Any, place: str) -> StudyRow:
    if isinstance(said, str):
        return StudyRow(said, said)
    own = _mapping(said, place, ("row", "label", *SIZES))
    if "row" not in own:
        raise UserError(f"{place}: has no `row`; write {{row: local-search, init: 0}}")
    text = _plain(own["row"], str, f"{place}: `row`")
    sizes = tuple((key, _plain(own[key], int, f"{place}: `{key}`")) for key in SIZES if key in own)
    return StudyRow(text, _plain(own.get("label", text), str, f"{place}: `label`"), sizes)


def _on_grid(grid: Mapping[str, tuple[Any, ...]]) -> list[StudyRow]:
    """The row `collm` with every combination; none without a grid."""
    if not grid:
        return []
    made = [":".join(f"{k}={v}" for k, v in zip(grid, values, strict=True)) for values in product(*grid.values())]
    return [StudyRow(f"collm:{options}", options) for options in made]


def _check_labels(rows: Iterable[StudyRow], place: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if "," in row.label:
            raise UserError(
                f"{place}: the row {row.label!r} has a comma, at which --rows parts; give it another `label`"
            )
        if row.label in seen:
            raise UserError(f"{place}: two rows are called {row.label!r}; give one of them another `label`")
        seen.add(row.label)


def _layout(said: Any, place: str, cases: Mapping[str, Any]) -> Layout:
    own = _mapping(said, place, ("title", "columns"))
    columns = [_column(one, f"{place}: columns[{i}]", cases) for i, one in enumerate(_list(own, "columns", place))]
    return Layout(_plain(own.get("title", ""), str, f"{place}: `title`"), tuple(columns))


def _column(said: Any, place: str, cases: Mapping[str, Any]) -> Column:
    own = _mapping(said, place, ("title", "case", "measure", "queries"))
    texts = {key: _plain(own.get(key, ""), str, f"{place}: `{key}`") for key in ("title", "case", "measure")}
    if texts["case"] not in (cases or {"": {}}):
        raise UserError(
            f"{place}: case {texts['case']!r} is unknown; legal: {', '.join(cases) or 'none, leave it out'}"
        )
    queries = own.get("queries")
    return Column(**texts, queries=None if queries is None else _plain(queries, int, f"{place}: `queries`"))


# --- checks -----------------------------------------------------------------------------------------------------------


def _mapping(said: Any, place: str, legal: Iterable[str]) -> dict[str, Any]:
    """With `-` in keys read as `_`."""
    if not isinstance(said, dict):
        raise UserError(f"{place}: must be a mapping with some of the keys {', '.join(legal)}")
    legal = list(legal)
    for key in said:
        if str(key).replace("-", "_") not in legal:
            close = difflib.get_close_matches(str(key), legal, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{place}: the key {str(key)[:40]!r} is unknown; legal: {', '.join(legal)}{hint}")
    return {str(key).replace("-", "_"): value for key, value in said.items()}


def _options(said: Any, place: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    own = _mapping(said, place, kinds)
    return {key: _plain(value, kinds[key], f"{place}: `{key}`") for key, value in own.items()}


def _names(top: Mapping[str, Any], key: str, place: str) -> list[tuple[str, Any]]:
    said = top.get(key, {})
    if not isinstance(said, dict):
        raise UserError(f"{place}: `{key}` must be a mapping of names")
    return [(str(name), value) for name, value in said.items()]


def _list(top: Mapping[str, Any], key: str, place: str) -> list[Any]:
    said = top.get(key, [])
    if not isinstance(said, list):
        raise UserError(f"{place}: `{key}` must be a list, got {str(said)[:40]!r}")
    return said


def _some(said: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str | int | float) for one in said):
        raise UserError(f"{place}: must be a list of numbers or texts, with at least one")
    return tuple(f"{one:g}" if isinstance(one, float) else str(one) for one in said)


def _plain(said: Any, kind: type, place: str) -> Any:
    if kind is float and isinstance(said, int) and not isinstance(said, bool):
        said = float(said)
    if kind is list and isinstance(said, list) and all(isinstance(one, str) for one in said):
        return tuple(said)
    if kind is list or not isinstance(said, kind) or (kind is int and isinstance(said, bool)):
        raise UserError(f"{place} must be {_WORDS[kind]}, got {str(said)[:40]!r}")
    return kind(said)
