"""What a bench runs: options of the command line over those of a protocol file, one case after another.

Everything is searched by `eval.bench.run_jobs`, so that a killed bench goes on, and cases that share a search share it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collm_nas import objectives
from collm_nas.api import UserError
from eval import bench, printed, ranking
from eval.command import PROBLEM, problem_of
from eval.measured import Measured
from eval.rows import MODEL_OPTIONS, Row, default_rows, left_out, parse_row
from eval.study import FITNESS, OPTIONS, QUERIES, TAU, Study, StudyRow

SIZES = {"budget": 100, "init": 10, "batch": 5, "seeds": 30}
"""Defaults that neither command line nor file need to say."""
MODES = {"decoding": "new", "sampling": "rejection"}
"""The same of the row `collm`, where no preset says otherwise."""


@dataclass(frozen=True, slots=True)
class Case:
    """One table: rows on one problem, each with the protocol that is its own in init, batch, budget and seeds."""

    name: str
    protocol: bench.Protocol
    rows: tuple[tuple[Row, bench.Protocol], ...]

    def jobs(self, kind: type[bench.Job]) -> list[bench.Job]:
        """Seed by seed."""
        return [kind(own, row, s) for s in range(self.protocol.seeds) for row, own in self.rows if s < own.seeds]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it; `changed`: what the command line says in place of the protocol file."""

    kind: str
    options: argparse.Namespace
    cases: tuple[Case, ...]
    changed: tuple[str, ...]


def make(args: argparse.Namespace, study: Study | None) -> Plan:
    """The plan, checked; UserError before anything is written."""
    options, changed = settle(args, study)
    kind = study.kind if study else "search"
    cases = tuple(_case(name, own, options, study) for name, own in _chosen(args, study).items())
    for case in cases:
        _check(case, kind, study)
    if study is not None and study.printed:
        printed.read(study.printed)
    return Plan(kind, options, cases, changed)


def run(
    plan: Plan, journal: Path, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Measured]:
    """Every case with its records; what `journal` holds is not run again."""
    job, work = (ranking.Ranking, ranking.rank) if plan.kind == "ranking" else (bench.Job, bench.search)
    jobs = {case.name: case.jobs(job) for case in plan.cases}
    every = [one for some in jobs.values() for one in some]
    records = iter(bench.run_jobs(every, journal, processes, progress, work))
    return [
        Measured(plan.kind, case.name, case.protocol, case.rows, [next(records) for _ in jobs[case.name]])
        for case in plan.cases
    ]


# --- options ----------------------------------------------------------------------------------------------------------


def settle(args: argparse.Namespace, study: Study | None) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """The options as they hold, and those that the command line says in place of the file.

    The command line wins over the file; UserError for an option that each of the file's cases sets.
    """
    said = study.options if study else {}
    in_cases = {key for own in (study.cases if study else {}).values() for key in own}
    options, changed = argparse.Namespace(**vars(args)), []
    for key in OPTIONS:
        given = getattr(args, key, None)
        if given is None or given is False or given == "":  # a 0 is given
            setattr(options, key, said.get(key, given))
            continue
        flag = f"--{key.replace('_', '-')}"
        if key in in_cases:
            raise UserError(
                f"{flag} is what the cases of --protocol {args.protocol} differ in; choose some with --case"
            )
        if key in said and said[key] != given:
            changed.append(f"{flag} {given} (there: {said[key]})")
        elif study is not None and key not in ("table", "supernet", "data", "model"):
            changed.append(f"{flag} {given}")
    if study is not None and args.rows:
        changed.append(f"--rows {args.rows}")
    options.problem = options.problem or PROBLEM
    defaults = SIZES if options.preset else {**SIZES, **MODES}
    for key, value in defaults.items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    return options, tuple(changed)


def _chosen(args: argparse.Namespace, study: Study | None) -> dict[str, dict[str, Any]]:
    """The cases to run."""
    known = study.cases if study else {"": {}}
    for name in args.case or ():
        if name not in known or not name:
            legal = ", ".join(filter(None, known)) or "none; leave it out"
            raise UserError(f"--case {name!r} is unknown in --protocol {args.protocol}; legal: {legal}")
    return {name: own for name, own in known.items() if not args.case or name in args.case}


# --- cases ------------------------------------------------------------------------------------------------------------


def _case(name: str, own: dict[str, Any], options: argparse.Namespace, study: Study | None) -> Case:
    settled = argparse.Namespace(**{**vars(options), **own})
    _need_table(settled, study)
    protocol = bench.Protocol(
        problem=problem_of(settled),
        budget=settled.budget,
        init=settled.init,
        batch=settled.batch,
        seeds=settled.seeds,
        checkpoints=study.checkpoints if study else (),
        objective=objectives.read(settled.objective or objectives.FITNESS),
    )
    made = tuple((_row(row, settled, study), _protocol(row, protocol)) for row in _rows(settled, study))
    return Case(name, protocol, made)


def _check(case: Case, kind: str, study: Study | None) -> None:
    """UserError before hours are spent: a wrong table, row or model, and columns of `table.md` that nothing fills."""
    if kind == "ranking":
        ranking.check(case.protocol, [row for row, _ in case.rows])
    else:
        bench.check(case.protocol, [row for row, _ in case.rows])
    measures = (TAU,) if kind == "ranking" else (FITNESS, QUERIES, *case.protocol.problem.report)
    for column in (c for layout in (study.tables if study else ()) for c in layout.columns if c.case == case.name):
        place = f"--protocol {study.name if study else ''}: the column {column.title!r} of `tables`"
        if column.measure not in measures:
            raise UserError(f"{place} has the measure {column.measure!r}; legal there: {', '.join(measures)}")
        if column.queries is not None and column.queries not in case.protocol.checkpoints:
            raise UserError(f"{place} is at {column.queries} queries, which is none of `checkpoints`; add it there")


def _need_table(options: argparse.Namespace, study: Study | None) -> None:
    if study is None or options.problem != "table" or options.table:
        return
    every = [*study.cases.values(), study.options]
    columns = dict.fromkeys(c for o in every for c in (o.get("fitness"), *o.get("report", ())) if c)
    raise UserError(
        f"--protocol {options.protocol} searches a table of {options.space}, which this package does not carry; say "
        f"where yours is: --table FILE, CSV or Parquet with the columns arch, {', '.join(columns)}"
    )


def _rows(options: argparse.Namespace, study: Study | None) -> Sequence[StudyRow]:
    """Those of --rows, else of the file, else all there are."""
    known = {text: row for row in (study.rows if study else ()) for text in (row.label, row.text)}
    if options.rows:
        return [known.get(text.strip(), StudyRow(text.strip(), text.strip())) for text in options.rows.split(",")]
    if study is not None and study.rows:
        return study.rows
    if said := left_out():
        print(said, file=sys.stderr)
    return [StudyRow(text, text) for text in default_rows()]


def _row(row: StudyRow, options: argparse.Namespace, study: Study | None) -> Row:
    chosen = {name: getattr(options, name, None) for name in MODEL_OPTIONS}  # some are for --rows alone
    parse = ranking.parse_row if study is not None and study.kind == "ranking" else parse_row
    return replace(parse(row.text, chosen), label=row.label)


def _protocol(row: StudyRow, protocol: bench.Protocol) -> bench.Protocol:
    """With the row's own sizes; budget and seeds are at most those of all rows."""
    own: dict[str, Any] = dict(row.own)
    for name in ("budget", "seeds"):
        own[name] = min(own.get(name, getattr(protocol, name)), getattr(protocol, name))
    own["init"] = min(own.get("init", protocol.init), own["budget"])
    return replace(protocol, **own)
