"""One factor at a time around the default search: questions, the searches that answer them, and their answers.

A cell that fails keeps its error in one line; the others go on. Whatever was searched is kept and not run again; since
the key of a search holds the model's hash, the same command after a new model answers everything anew.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval import bench
from eval.ablations import REGRET, Cell, Question
from eval.metrics import Estimate, Paired, bootstrap, paired
from eval.rows import MODEL_ROW, Row

Record = dict[str, Any]
RANDOM = ("init", "fallback")
"""Proposers that are no model: the random start, and what fills a batch for which the models had nothing new."""

ENOUGH = 5
"""Seeds below which a bootstrap interval says nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """A cell's figures: means over the seeds that did not fail; shares of what was attempted by the models."""

    label: str
    searches: int
    failed: int
    error: str
    regret: Estimate | None = None
    """Normalised: 0 is the best known, 1 a typical random point."""
    against: Paired | None = None
    """The cell's measure minus the first cell's, seed by seed."""
    attempted: float = 0.0
    valid: float = 0.0
    unique: float = 0.0
    evaluated: float = 0.0
    fallback: float = 0.0
    """Evaluations that were random, since the models proposed nothing new."""
    tokens: float = 0.0
    """Completion tokens an evaluated candidate, strategies and what was thrown away included."""
    milliseconds: float = 0.0
    """Of the models, an evaluated candidate."""
    mask: float = 0.0
    """Milliseconds of them that grammars took, an evaluated candidate; compilation not included."""
    diversity: float | None = None
    """See `eval.metrics.diversity`; of the models' evaluated candidates."""


def protocol_of(cell: Cell, protocol: bench.Protocol) -> bench.Protocol:
    """The protocol of all cells with what is the cell's own."""
    own: dict[str, Any] = dict(cell.protocol)
    for name in ("budget", "seeds"):
        own[name] = min(own.get(name, sys.maxsize), getattr(protocol, name))
    own["init"] = min(protocol.init, own["budget"])
    problem = protocol.problem
    if cell.relabel or cell.reorder:
        problem = replace(problem, relabel=cell.relabel, reorder=cell.reorder)
    return replace(protocol, problem=problem, **own)


def jobs(protocol: bench.Protocol, cell: Cell, given: dict[str, Any]) -> list[bench.Job]:
    """The searches of a cell, one a seed; `given`: options of all cells (the model, say) but for its own."""
    options = {**given, **dict(cell.options)}
    row, own = Row(cell.label, MODEL_ROW, tuple(sorted(options.items()))), protocol_of(cell, protocol)
    return [bench.Job(own, row, seed) for seed in range(own.seeds)]


def attempt(job: bench.Job) -> Record:
    """The search's record, or the error that ended it."""
    try:
        return bench.search(job)
    except Exception as error:  # of any library here: it is what this cell found, and the others go on
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {"key": job.key(), "row": job.row.label, "seed": job.seed, "error": reason}


def run(
    protocol: bench.Protocol,
    questions: Sequence[Question],
    journal: Path,
    given: dict[str, Any],
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Record]]:
    """The records of every cell by its label; a cell that questions share is searched once, and failed ones again."""
    cells = {cell.label: cell for question in questions for cell in question.cells}
    # Cell by cell, so that a process rarely loads another model.
    every = [job for cell in cells.values() for job in jobs(protocol, cell, given)]
    _forget_failures(journal)
    found: dict[str, list[Record]] = {label: [] for label in cells}
    for record in bench.run_jobs(every, journal, processes, progress, attempt):
        found[record["row"]].append(record)
    return found


def _forget_failures(journal: Path) -> None:
    """Leave out what failed before: the reason may be mended. A line torn by a kill goes, too."""
    if not journal.exists():
        return
    whole = journal.read_bytes().rpartition(b"\n")[0].splitlines(keepends=True)
    kept = [line.rstrip(b"\n") + b"\n" for line in whole if b'"error": ' not in line]
    if len(kept) < len(whole):
        partial = journal.with_suffix(".partial")
        partial.write_bytes(b"".join(kept))
        os.replace(partial, journal)  # a kill in between loses nothing


# --- figures ----------------------------------------------------------------------------------------------------------


def lines(question: Question, found: dict[str, list[Record]]) -> list[Line]:
    """The figures of a question's cells."""
    first = found[question.cells[0].label]
    return [line(cell.label, found[cell.label], first, question.measure) for cell in question.cells]


def line(label: str, records: Iterable[Record], first: Iterable[Record], measure: str = REGRET) -> Line:
    """The figures of a cell, against the records of the question's first cell."""
    records = list(records)
    good, errors = [r for r in records if "error" not in r], [r["error"] for r in records if "error" in r]
    made = Line(label, len(good), len(errors), errors[0] if errors else "")
    if not good:
        return made
    own, other = (_by_seed(some, measure) for some in (good, first))
    counts = {name: sum(_model(r, name) for r in good) for name in ("attempted", "valid", "unique", "evaluated")}
    attempted, evaluated = max(1, counts["attempted"]), max(1, counts["evaluated"])
    return replace(
        made,
        regret=bootstrap([r["normalised_regret"] for r in good]),
        against=paired(own, other) if own.keys() & other.keys() else None,
        attempted=counts["attempted"] / len(good),
        valid=counts["valid"] / attempted,
        unique=counts["unique"] / attempted,
        evaluated=counts["evaluated"] / len(good),
        fallback=sum(r["by_proposer"].get("fallback", 0) for r in good) / len(good),
        tokens=sum(r["tokens"]["completion"] for r in good) / evaluated,
        milliseconds=1000 * sum(r["seconds"]["llm"] for r in good) / evaluated,
        mask=1000 * sum(r["grammar_seconds"]["mask"] for r in good) / evaluated,
        diversity=_mean([r["diversity"] for r in good if r["diversity"] is not None]),
    )


def _by_seed(records: Iterable[Record], measure: str) -> dict[int, float]:
    rows = (_row("", r) for r in records if "error" not in r)
    return {row["seed"]: row[measure] for row in rows if row[measure] is not None}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _model(record: Record, count: str) -> int:
    """Of what the models proposed (repaired answers are theirs, too), not of random ones."""
    return sum(counts.get(count, 0) for who, counts in record["counts_by_proposer"].items() if who not in RANDOM)


def answer(lines: Sequence[Line], measure: str = REGRET) -> str:
    """What the cells say of the first, in a sentence each, with the interval that it rests on."""
    return " ".join(_sentence(lines[0].label, line, measure) for line in lines[1:])


def _sentence(first: str, line: Line, measure: str) -> str:
    name = line.label
    if line.regret is None:
        return f"{name}: failed, {line.error}."
    if line.against is None:
        return f"{name}: nothing to compare."
    difference = line.against.difference
    more, less = ("worse than", "better than") if measure == REGRET else ("higher than", "lower than")
    word = "level with" if not line.against.decided else more if difference.mean > 0 else less
    if line.searches < ENOUGH:
        word = "not yet to be told from"
    shown = measure.replace("_", " ")
    told = f"{name}: {word} {first} ({shown} {difference.text()} apart on {line.searches} seeds"
    if line.valid < 0.9995:
        told += f"; {100 * line.valid:.0f} % of what it emits is legal"
    if line.fallback >= 0.5:
        told += f"; {line.fallback:.0f} evaluations a search were random, for want of a new proposal"
    return told + ")." + (f" {line.failed} searches failed: {line.error}." if line.failed else "")


# --- files ------------------------------------------------------------------------------------------------------------

TIDY = (
    "cell", "seed", "error", "normalised_regret", "final", "queries", "attempted", "valid", "unique", "evaluated",
    "tokens_prompt", "tokens_completion", "tokens_thinking", "seconds_llm", "seconds_total", "seconds_compile",
    "seconds_mask", "diversity",
)  # fmt: skip


def tidy(found: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """A row a search; counts are those of the models' candidates."""
    return [_row(label, record) for label, records in found.items() for record in records]


def _row(label: str, record: Record) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(TIDY)
    row |= {"cell": label, "seed": record["seed"], "error": record.get("error")}
    if "error" in record:
        return row
    row |= {name: record[name] for name in ("normalised_regret", "final", "queries", "diversity")}
    row |= {name: _model(record, name) for name in ("attempted", "valid", "unique", "evaluated")}
    row |= {f"tokens_{name}": record["tokens"][name] for name in ("prompt", "completion", "thinking")}
    row |= {f"seconds_{name}": record["grammar_seconds"][name] for name in ("compile", "mask")}
    return row | {f"seconds_{name}": record["seconds"][name] for name in ("llm", "total")}


def write(folder: Path, found: dict[str, list[Record]]) -> None:
    """`ablate.csv` and `ablate.parquet`: a row a search; `curves.csv`: a row a query."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = tidy(found)
    with (folder / "ablate.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, TIDY)
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(pa.Table.from_pylist(rows), folder / "ablate.parquet")
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("cell", "seed", "query", "best"))
        for label, records in found.items():
            for record in records:
                table.writerows(
                    (label, record["seed"], query, best) for query, best in enumerate(record.get("curve", ()), start=1)
                )
