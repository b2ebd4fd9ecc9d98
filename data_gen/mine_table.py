"""The miner of a table: searches of it by optimisers without a model, the labels from all of its rows.

For a user's own cheap benchmark. The table's hash goes into the manifest, so that a search of it by the model that
learnt from it says `seen`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from collm_nas import optimizers, prompts, runner, spaces
from collm_nas.api import Architecture, Caps, Problem, UserError
from collm_nas.evaluators import table as tables
from collm_nas.evaluators.table import TableEvaluator
from collm_nas.journal import Journal
from collm_nas.memory import Memory
from collm_nas.spaces.base import CategoricalSpace
from data_gen.examples import BATCH, Example, Form, Origin, Stretch, check_digests, examples, stops, tried, uses_up
from data_gen.full_knowledge import best_of_values
from data_gen.histories import LENGTHS
from data_gen.mine import SHARD

SEARCHERS = ("local-evidence", "aging-evolution", "local-search", "digest-only", "random")
CAPPED = 0.3  # share of the searches under a cap, where the table or the space knows costs
_DRAWS = 400


OPTIONS = {
    "table": {"metavar": "F", "help": "CSV(.gz) or Parquet, or the name of a table of the package"},
    "space": {"metavar": "S", "help": "of a log, study or table: a name or a YAML file"},
    "fitness": {"metavar": "COL", "help": "of a log or table: the column, where it has several"},
    "searches": {"type": "int", "metavar": "N", "help": "how many searches of it (200)"},
    "digests": {"type": "int", "metavar": "N", "help": "of a landscape or table: Navigator examples a search (2)"},
}
"""The options of this source, as literals: `mine --help` reads them from the file's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """`searches` searches of a table, each stopped at `digests` points."""

    space: str
    table: str
    fitness: str | None = None
    searches: int = 200
    digests: int = 2
    form: Form = field(default_factory=Form)

    name = "table"
    labeller = "full_knowledge"
    shard = SHARD

    def __post_init__(self) -> None:
        """UserError where the table is none of this space, or the space has no compact encoding."""
        if self.searches < 1:
            raise UserError(f"--searches must be at least 1, got {self.searches}")
        check_digests(self.digests, LENGTHS)
        _load(self.space, self.table, self.fitness).space.check_compact()  # type: ignore[attr-defined]

    def units(self) -> int:
        """How many searches."""
        return self.searches

    def sources(self) -> dict[str, str]:
        """The table's hash, by its name."""
        evaluator = _load(self.space, self.table, self.fitness)
        return {evaluator.name: evaluator.about["sha256"]}

    def settings(self) -> dict[str, Any]:
        """What the manifest says."""
        return {name: getattr(self, name) for name in ("space", "table", "fitness", "searches", "digests")}

    def examples(self, unit: int) -> Iterator[Example]:
        """All examples of one search (the same in every process)."""
        evaluator = _load(self.space, self.table, self.fitness)
        space: CategoricalSpace = evaluator.space  # type: ignore[assignment]
        rng = np.random.default_rng([unit, 3])
        caps = _caps(evaluator, rng)
        values = dict(zip(evaluator.rows, evaluator.fitness, strict=True))
        if caps.limits:
            values = {arch: value for arch, value in values.items() if caps.allow(_costs(evaluator, arch))}
        best = best_of_values(values)
        ends = stops(LENGTHS, self.digests, rng)
        archs = _searched(evaluator, caps, str(rng.choice(SEARCHERS)), unit, ends[-1])
        pressure = prompts.pressure(space, caps, lambda arch: _costs(evaluator, arch))
        near_cap = uses_up(caps, _costs(evaluator, best[0]))
        for stop in ends:
            part = archs[:stop]
            told = [values[arch] for arch in part]
            past = tried(part, told, range(BATCH, len(part), BATCH))
            stretch = Stretch(part, told, [True] * len(part), past, pressure, near_cap)
            yield from examples(space, stretch, best, Origin(self.name, evaluator.name, unit), self.form, rng)


@lru_cache(maxsize=2)
def _load(space: str, table: str, fitness: str | None) -> TableEvaluator:
    return tables.load(spaces.load(space), table, fitness)


def _costs(evaluator: TableEvaluator, arch: Architecture) -> dict[str, float]:
    return {**evaluator.costs(arch), **evaluator.space.cost(arch)}


def _caps(evaluator: TableEvaluator, rng: np.random.Generator) -> Caps:
    """None, or one cost at a quantile of it."""
    names = sorted(_costs(evaluator, next(iter(evaluator.rows))))
    if not names or rng.random() >= CAPPED:
        return Caps()
    name = names[int(rng.integers(len(names)))]
    archs = list(evaluator.rows)
    sample = [_costs(evaluator, archs[i])[name] for i in rng.integers(0, len(archs), min(_DRAWS, len(archs)))]
    return Caps({name: float(np.quantile(sample, rng.uniform(0.15, 0.7)))})


def _searched(evaluator: TableEvaluator, caps: Caps, searcher: str, seed: int, budget: int) -> list[Architecture]:
    """The architectures that this optimiser evaluated, in order; fewer where the table or the caps have no more."""
    if budget == 0:
        return []
    problem = Problem(evaluator.space, seed, budget, caps, lambda arch: _costs(evaluator, arch))
    memory = Memory(problem, "init")
    memory.rng = random.Random(f"mine/{seed}")
    drawn: list[Architecture] = []
    while len(drawn) < min(budget, BATCH) and (arch := memory.new_random(drawn)) is not None:
        drawn.append(arch)
    journal = Journal(None)
    optimizer = optimizers.create(searcher, problem)
    runner.run(problem, optimizer, evaluator, journal, initial=drawn, batch=BATCH)
    return [evaluator.space.parse(e["arch"]) for e in journal.events if e["event"] == "evaluation"]


def create(form: Form, given: dict[str, Any]) -> Table:
    """The source that the options describe; UserError where space or table is missing."""
    if "table" not in given:
        raise UserError("--source table needs --table F (and --space S, unless the table has the name of its space)")
    given.setdefault("space", given["table"])
    return Table(form=form, **given)
