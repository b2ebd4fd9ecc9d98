"""The miner of past searches: at every fifth evaluation, what would have led to the best that was ever found.

The labels are in hindsight: the best 20 of all searches of the same task. The hashes of what was searched go into the
manifest, so that a search of it by the model that learnt from these runs says `seen`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from collm_nas import prompts, spaces
from collm_nas.api import Architecture, UserError
from data_gen import logs
from data_gen.examples import BATCH, Example, Form, Origin, Stretch, examples, tried, uses_up
from data_gen.full_knowledge import best_of_values
from data_gen.logs import Log
from data_gen.mine import SHARD

LEAST = 2 * BATCH
"""Evaluations below which a search says nothing."""


OPTIONS = {
    "run": {"action": "append", "metavar": "DIR", "help": "run folder, or a folder of them; repeatable"},
    "log": {"action": "append", "metavar": "F", "help": "CSV or Parquet, a row an evaluation; repeatable"},
    "run_column": {"metavar": "COL", "help": "column that tells several searches in a log apart"},
    "optuna": {"action": "append", "metavar": "URL", "help": "Optuna storage or SQLite file; repeatable"},
    "study": {"metavar": "NAME", "help": "the study in it (all)"},
    "space": {"metavar": "S", "help": "of a log, study or table: a name or a YAML file"},
    "fitness": {"metavar": "COL", "help": "of a log or table: the column, where it has several"},
}
"""The options of this source, as literals: `mine --help` reads them from the file's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Run folders, logs and Optuna storages; `space` is that of the logs and storages (a run says its own)."""

    run: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    optuna: tuple[str, ...] = ()
    space: str | None = None
    fitness: str | None = None
    run_column: str | None = None
    study: str | None = None
    form: Form = field(default_factory=Form)

    name = "runs"
    labeller = "hindsight"
    shard = SHARD

    def __post_init__(self) -> None:
        """UserError where there is no search to learn from, or one cannot be read."""
        self._found()

    def _found(self) -> list[tuple[Log, dict[Architecture, float]]]:
        return _read(self.run, self.log, self.optuna, self.space, self.fitness, self.run_column, self.study)

    def units(self) -> int:
        """How many searches."""
        return len(self._found())

    def sources(self) -> dict[str, str]:
        """Hashes of the tables, supernets and logs behind them."""
        return {name: sha for log, _ in self._found() for name, sha in log.sources.items()}

    def settings(self) -> dict[str, Any]:
        """What the manifest says."""
        names = ("run", "log", "optuna", "space", "fitness", "run_column", "study")
        said = {name: getattr(self, name) for name in names}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in said.items() if v not in (None, ())}

    def examples(self, unit: int) -> Iterator[Example]:
        """All examples of one search (the same in every process)."""
        log, pool = self._found()[unit]
        space, rng = log.space, np.random.default_rng([unit, 4])
        feasible, best = log.feasible, best_of_values(pool)
        pressure = None
        if log.caps.limits and set(log.caps.limits) <= set(space.cost(best[0])):
            pressure = prompts.pressure(space, log.caps, space.cost)
        near_cap = uses_up(log.caps, space.cost(best[0]))
        for stop in range(0, len(log.archs) + 1, BATCH):
            archs, values = log.archs[:stop], log.values[:stop]
            past = tried(archs, values, range(LEAST, stop, BATCH))
            stretch = Stretch(archs, values, feasible[:stop], past, pressure, near_cap)
            yield from examples(space, stretch, best, Origin(self.name, log.name, unit), self.form, rng)


@lru_cache(maxsize=2)
def _read(
    run: tuple[str, ...],
    log: tuple[str, ...],
    storages: tuple[str, ...],
    space_name: str | None,
    fitness: str | None,
    run_column: str | None,
    study: str | None,
) -> list[tuple[Log, dict[Architecture, float]]]:
    found = [one for folder in run for one in logs.from_folder(Path(folder))]
    if log or storages:
        if space_name is None:
            raise UserError("--log and --optuna need --space S, whose variables they name")
        space = spaces.load(space_name)
        found += [one for path in log for one in logs.from_table(Path(path), space, fitness, run_column)]
        found += [one for storage in storages for one in logs.from_optuna(storage, study, space)]
    if not (run or log or storages):
        raise UserError("--source runs needs --run DIR, --log FILE or --optuna STORAGE, each repeatable")
    long = [one for one in found if len(one.archs) >= LEAST]
    if not long:
        raise UserError(
            f"none of the {len(found)} searches given has {LEAST} evaluations or more; there is nothing to learn from"
        )
    for one in long:
        one.space.check_compact()
    found_within = [(one, pool) for one, pool in logs.by_task(long) if pool]
    if not found_within:
        raise UserError("none of the searches given found anything within its caps; there is nothing to learn from")
    return found_within


def create(form: Form, given: dict[str, Any]) -> Runs:
    """The source that the options describe."""
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Runs(form=form, **lists)
