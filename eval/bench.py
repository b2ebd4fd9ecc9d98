"""Many optimisers on one protocol: seeds spread over the cores, every finished search kept, a killed bench resumed.

All rows of a seed begin with the same architectures and run through `collm_nas.runner`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from collm_nas import objectives, worker
from collm_nas.api import Architecture, Problem, UserError
from collm_nas.journal import Journal
from eval import fronts
from eval.metrics import diversity, normalised_regret, queries_to_reach, regret
from eval.problems import Instance, ProblemSpec, describe, load
from eval.rows import Row

Record = dict[str, Any]
RECORD = 2
"""Version of what is kept of a search: those of another are searched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What all rows share."""

    problem: ProblemSpec
    budget: int = 100
    init: int = 10
    batch: int = 5
    seeds: int = 30
    """Number of seeds; they are 0, 1, 2, ..."""
    checkpoints: tuple[int, ...] = ()
    """Queries after which the best so far, and its report columns, are kept as if the search had ended there."""
    objective: tuple[str, ...] = (objectives.FITNESS,)
    """In the order of `collm_nas.objectives`; what beside fitness is minimised."""

    def __post_init__(self) -> None:
        for name in ("budget", "batch", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, but is {getattr(self, name)}")
        if not 0 <= self.init <= self.budget:
            raise UserError(f"--init {self.init} must lie in 0..--budget ({self.budget})")
        if any(query < 1 for query in self.checkpoints):
            raise UserError(f"checkpoints must be at least 1, but one is {min(self.checkpoints)}")

    def describe(self) -> dict[str, Any]:
        """JSON values that stand beside every figure."""
        shared: dict[str, Any] = {"budget": self.budget, "init": self.init, "batch": self.batch}
        if self.checkpoints:
            shared["checkpoints"] = list(self.checkpoints)
        if len(self.objective) > 1:
            shared["objective"] = list(self.objective)
        return {**describe(self.problem), **shared, "seeds": self.seeds}

    def posed(self, instance: Instance, seed: int) -> Problem:
        """What an optimiser is told of this instance."""
        return Problem(instance.space, seed, self.budget, instance.caps, instance.costs, self.objective)


def line(said: dict[str, Any]) -> str:
    """The protocol in one line: space, table with hash, fitness, report, budget, seeds."""
    shown = [
        "problem",
        "space",
        "table",
        "sha256",
        "covers",
        "fitness",
        "report",
        "caps",
        "objective",
        "budget",
        "init",
    ]
    shown += ["batch"]
    parts = [f"{key} {_plain(said[key])}" for key in shown if said.get(key) not in (None, [], {})]
    parts += [f"seeds 0..{said['seeds'] - 1}"] + (["choices relabelled"] if said.get("relabelled") else [])
    return " | ".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{k}<={v:g}" for k, v in value.items())
    return str(value)


# --- one search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """One search: what a worker is sent."""

    protocol: Protocol
    row: Row
    seed: int

    def key(self) -> str:
        """What identifies the search; equal keys, equal outcome."""
        parts = [RECORD, describe(self.protocol.problem), self.row.name, self.row.options, self.seed]
        parts += [self.protocol.budget, self.protocol.init, self.protocol.batch]
        if self.row.model is not None:
            parts.append(_model_mark(self.row.model))
        if self.protocol.checkpoints:
            parts.append(self.protocol.checkpoints)
        if len(self.protocol.objective) > 1:
            parts.append(self.protocol.objective)
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


@lru_cache(maxsize=8)
def _model_mark(model: Path) -> str:
    """Hash of a model folder's weights and settings: another model under the same name is another search."""
    digest = hashlib.sha256()
    for path in sorted([*model.rglob("*.safetensors"), *model.rglob("*.json")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def search(job: Job) -> Record:
    """Runs one search and measures it."""
    from collm_nas import result, runner
    from eval import model_row

    protocol = job.protocol
    instance = load(protocol.problem, job.seed)
    problem = protocol.posed(instance, job.seed)
    journal = Journal(None)
    optimizer, engine, spent = model_row.optimizer(job.row, problem, journal, instance)
    before = dict(spent)
    starts = instance.starts(protocol.init, job.seed)
    several = len(protocol.objective) > 1
    header = {"options": {"objective": list(protocol.objective)}} if several else {}
    runner.run(problem, optimizer, instance.evaluator, journal, initial=starts, batch=protocol.batch, header=header)
    outcome = result.derive(journal.events)
    return {
        "key": job.key(),
        "row": job.row.label,
        "seed": job.seed,
        "seen": seen(engine, instance),
        **_measure(instance, outcome, protocol),
        **(fronts.measure(protocol.problem, job.seed, instance, outcome) if several else {}),
        "grammar_seconds": {name: spent[name] - before[name] for name in spent},
    }


def seen(engine: dict[str, Any], instance: Instance) -> str | None:
    """Whether the model was trained on this table; None for a row without a model."""
    if not engine:
        return None
    trained = set(engine.get("sources", {}).values())
    return "seen" if trained & set(instance.evaluator.protocol().get("source_hashes", ())) else "unseen"


def _measure(instance: Instance, outcome: dict[str, Any], protocol: Protocol) -> Record:
    """`curve` and so `queries` follow what is worth the point that would be chosen after each query.

    Where fitness is noisy that is not always the best one met: a search is judged by what it would hand over.
    """
    curve: list[float | None] = []
    chosen: list[Architecture | None] = []
    incumbent: float | None = None
    arch: Architecture | None = None
    for i, query in enumerate(outcome["history"]):
        best = query["best_so_far"]
        if best is not None and query["feasible"] and (i == 0 or best != outcome["history"][i - 1]["best_so_far"]):
            arch = instance.space.parse(query["arch"])
            incumbent = instance.value(arch, query["fitness"])
        curve.append(incumbent)
        chosen.append(arch)
    if incumbent is None or outcome["best"] is None:
        raise UserError("a search of the benchmark evaluated nothing within the caps; raise them or the budget")
    return {
        "final": incumbent,
        "best": instance.best,
        "typical": instance.typical,
        "regret": regret(instance.best, incumbent),
        "normalised_regret": normalised_regret(instance.best, instance.typical, incumbent),
        "queries": queries_to_reach(curve, instance.best),
        "found": queries_to_reach(curve[-1:], instance.best) is not None,
        "report": outcome["best"]["report"],
        "counts": outcome["counts"],
        "counts_by_proposer": outcome["counts_by_proposer"],
        "by_proposer": {k: v["evaluated"] for k, v in outcome["counts_by_proposer"].items()},
        "tokens": outcome["tokens"],
        "seconds": outcome["seconds"],
        "diversity": diversity(
            [instance.space.parse(row["arch"]) for row in outcome["history"] if row["proposer"] == "model"]
        ),
        "curve": curve,
        **({"checkpoints": _stops(instance, curve, chosen, protocol)} if protocol.checkpoints else {}),
    }


def _stops(
    instance: Instance, curve: list[float | None], chosen: list[Architecture | None], protocol: Protocol
) -> dict[str, dict[str, float]]:
    """What a search of so many queries would have handed over; no entry before the first one within the caps."""
    stops = {}
    for query in protocol.checkpoints:
        last = min(query, len(curve)) - 1  # a space may be used up before
        arch, value = chosen[last], curve[last]
        if query <= protocol.budget and arch is not None and value is not None:
            stops[str(query)] = {"fitness": value, **instance.evaluator.report(arch)}
    return stops


# --- all of them ------------------------------------------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job],
    journal: Path,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
    work: Callable[[Job], Record] = search,
) -> list[Record]:
    """The record of each job: read from `journal`, or made by `work`, appended there and synced at once. Jobs of equal
    key are one. Records of other protocols in that file are left alone."""
    done = {record["key"]: record for record in _read(journal)}
    unique = {job.key(): job for job in jobs}
    left = [job for key, job in unique.items() if key not in done]
    with closing(_Appender(journal)) as append:
        for i, record in enumerate(_searches(left, processes, work), start=len(unique) - len(left) + 1):
            append(record)
            done[record["key"]] = record
            if progress is not None:
                progress(i, len(unique))
    return [{**done[job.key()], "row": job.row.label} for job in jobs]


def check(protocol: Protocol, rows: Sequence[Row]) -> None:
    """UserError where an option's value or a model folder is wrong, before hours are spent on other rows."""
    from collm_nas import optimizers
    from eval import model_row

    instance = load(protocol.problem, 0)
    problem = protocol.posed(instance, 0)
    fronts.check(protocol.problem, problem, protocol.init)
    for row in rows:
        if dict(row.options).get("preset") and len(protocol.objective) > 1:
            raise UserError(f"--rows: {row.label!r} knows fitness alone; leave it out, or --objective")
        if row.model is not None:
            model_row.check(row)
        else:
            optimizers.create(row.name, problem, **dict(row.options))


def _searches(jobs: Sequence[Job], processes: int, work: Callable[[Job], Record]) -> Iterator[Record]:
    """Records as they come; in this process where one is enough."""
    if processes <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, worker.begin) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker was killed, for want of memory perhaps; run it again with fewer --processes"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(journal: Path) -> list[Record]:
    """The finished searches; a line torn by a kill is left out, any other broken line is refused."""
    if not journal.exists():
        return []
    records = []
    lines = journal.read_text(encoding="utf-8").split("\n")
    for number, text in enumerate(lines, start=1):
        if not text:
            continue
        try:
            records.append(json.loads(text))
        except ValueError:
            if number < len(lines):
                raise UserError(f"{journal} is damaged at line {number}; delete it, its search is run again") from None
    return records


class _Appender:
    """Appends records, each synced; cuts a torn last line off first. Nothing is made before the first record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __call__(self, record: Record) -> None:
        file = self._file = self._file or self._opened()
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())

    def _opened(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        old = self._path.read_bytes() if self._path.exists() else b""
        file = self._path.open("ab")
        file.truncate(old.rfind(b"\n") + 1)
        return file

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


def settings(protocol: Protocol, rows: Sequence[Row]) -> dict[str, Any]:
    """All that determines the figures, as JSON values."""
    return {"protocol": protocol.describe(), "problem": asdict(protocol.problem), "rows": [asdict(row) for row in rows]}
