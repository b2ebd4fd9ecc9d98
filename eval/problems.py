"""What a benchmark searches: a table, a supernet, or an unseen landscape a seed, with the best that is known of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from collm_nas.api import Architecture, Caps, Evaluator, UserError
from collm_nas.evaluators.landscape import HELD_OUT, VALIDATION
from collm_nas.spaces.base import CategoricalSpace

PACKAGED = ("digits-cells", "cifar-stages")
"""Tables that come with the package; each has the name of its space, and the columns `valid` and `test`."""
KINDS = (*PACKAGED, "landscapes", "validation", "table", "supernet")
LANDSCAPES = {"landscapes": HELD_OUT, "validation": VALIDATION}
"""Kinds that draw a landscape a seed, and their first seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemSpec:
    """A problem by name and options: small and picklable, so that a worker builds it itself."""

    kind: str
    space: str = ""
    table: str = ""
    supernet: str = ""
    data: str | None = None
    """Of a supernet: its images, where its file does not name them."""
    fitness: str | None = None
    report: tuple[str, ...] = ()
    variables: int | None = None
    """Of a landscape; None: drawn for each (4 to 12)."""
    relabel: bool = False
    reorder: bool = False
    limits: tuple[tuple[str, float], ...] = ()
    """Caps on costs, for tables and supernets; landscapes bring their own."""
    cap_quantile: float | None = None
    """Of landscapes on a real space: a cap on flops at this share of random architectures."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"--problem {self.kind!r} is unknown; legal: {', '.join(KINDS)}")
        if self.kind == "table" and not (self.space and self.table):
            raise UserError("--problem table needs --space and --table; for example --space nasbench201 --table nb.csv")
        if (self.kind == "supernet") != bool(self.supernet) or (self.data and not self.supernet):
            raise UserError("--problem supernet needs --supernet F (and --data DIR), which are for no other problem")
        if self.relabel and self.reorder:
            raise UserError("choices relabelled and variables reordered are two controls; ask for one of them")
        if self.variables is not None and (self.kind not in LANDSCAPES or not 2 <= self.variables <= 52):
            raise UserError(f"--variables {self.variables} must lie in 2..52, and is for landscapes")
        if self.cap_quantile is not None and not (
            self.kind in LANDSCAPES and self.space and 0 < self.cap_quantile <= 1
        ):
            raise UserError(
                f"--cap-quantile {self.cap_quantile} must be above 0 and at most 1, and is for landscapes on a --space"
            )
        if self.variables is not None and self.space:
            raise UserError("--variables is for landscapes on spaces of their own; leave it or --space out")
        if self.kind in LANDSCAPES and self.limits:
            raise UserError(
                f"--max-{self.limits[0][0]} is for tables and supernets; landscapes bring caps of their own"
            )


@dataclass(frozen=True, slots=True)
class Instance:
    """What one seed of a benchmark searches."""

    space: CategoricalSpace
    evaluator: Evaluator
    best: float
    """Best known value: a table's highest fitness within the caps, a landscape's noise-free optimum."""
    typical: float
    """Median of random points, which makes regrets comparable."""
    caps: Caps = field(default_factory=Caps)
    truth: str | None = None
    """The report column that regret is counted from where fitness is noisy; None: fitness itself."""

    def value(self, arch: Architecture, fitness: float) -> float:
        """What an evaluated architecture is worth, in the units of `best`."""
        return fitness if self.truth is None else self.evaluator.report(arch)[self.truth]

    def starts(self, n: int, seed: int) -> list[Architecture]:
        """`n` random architectures within the caps, the same for every row (and with choices relabelled).

        Fewer in a space, or under caps, where a bounded number of draws finds no more.
        """
        return self.draws(n, random.Random(f"bench/{seed}"))

    def draws(self, n: int, rng: random.Random) -> list[Architecture]:
        """Up to `n` distinct random architectures within the caps."""
        found: dict[Architecture, None] = {}
        for _ in range(200 * n):
            if len(found) == n:
                break
            arch = _draw(self.space, rng)
            if not self.caps.limits or self.caps.allow(self.costs(arch)):
                found[arch] = None
        return list(found)

    def costs(self, arch: Architecture) -> dict[str, float]:
        """The space's costs, else the table's."""
        return self.space.cost(arch) or self.evaluator.costs(arch)


def _draw(space: CategoricalSpace, rng: random.Random) -> Architecture:
    from eval.relabel import RelabelledSpace

    if isinstance(space, RelabelledSpace):
        return space.from_original(space.original.sample(rng))
    return space.sample(rng)


def load(spec: ProblemSpec, seed: int) -> Instance:
    """The instance of this seed. Raises UserError where space, table or column are wrong."""
    instance = _landscape(spec, seed) if spec.kind in LANDSCAPES else _fixed(spec)
    if not (spec.relabel or spec.reorder):
        return instance
    from eval.relabel import RelabelledEvaluator, relabel, reorder

    space = (relabel if spec.relabel else reorder)(instance.space, seed)
    evaluator = RelabelledEvaluator(instance.evaluator, space)
    return replace(instance, space=space, evaluator=evaluator)


def _landscape(spec: ProblemSpec, seed: int) -> Instance:
    from collm_nas.evaluators import landscape

    if spec.space:
        return _on_space(spec, seed)
    drawn = landscape.draw(LANDSCAPES[spec.kind] + seed, variables=spec.variables)
    return Instance(drawn.space, drawn, drawn.optimum, drawn.median, drawn.caps, "true")


@lru_cache(maxsize=4)
def _on_space(spec: ProblemSpec, seed: int) -> Instance:
    from collm_nas import spaces
    from collm_nas.evaluators.landscape_on import SpaceLandscapeEvaluator

    drawn = SpaceLandscapeEvaluator(spaces.load(spec.space), LANDSCAPES[spec.kind] + seed, spec.cap_quantile)
    return Instance(drawn.space, drawn, drawn.optimum, drawn.median, drawn.caps, "true")


def _fixed(spec: ProblemSpec) -> Instance:
    return _supernet(spec) if spec.kind == "supernet" else _table(spec)


SAMPLED, SURE = 50, 100.0
"""Random subnets whose median is a supernet's typical one; and its best value, which nobody knows: no error at all."""


@lru_cache(maxsize=2)
def _supernet(spec: ProblemSpec) -> Instance:
    import statistics

    from collm_nas.evaluators import supernet

    evaluator = supernet.load(spec.space or None, spec.supernet, spec.data)
    searched = cast(CategoricalSpace, evaluator.space)
    instance = Instance(searched, evaluator, SURE, 0.0, Caps(dict(spec.limits)))
    rng = random.Random("typical")
    drawn = instance.draws(SAMPLED, rng)
    return replace(instance, typical=statistics.median(e.fitness for e in evaluator.evaluate(drawn)))


@lru_cache(maxsize=2)
def _table(spec: ProblemSpec) -> Instance:
    import statistics

    from collm_nas import spaces
    from collm_nas.evaluators import table

    packaged = spec.kind if spec.kind in PACKAGED else ""
    space = spaces.load(spec.space or packaged)  # a packaged table and its space share a name
    evaluator = table.load(space, spec.table or packaged, fitness=spec.fitness, report=spec.report)
    caps = Caps(dict(spec.limits))
    searched = cast(CategoricalSpace, evaluator.space)
    whole = Instance(searched, evaluator, 0.0, 0.0, caps)
    feasible = _within(whole)
    values = [evaluation.fitness for evaluation in evaluator.evaluate(feasible)]
    return replace(whole, best=max(values), typical=statistics.median(values))


def _within(instance: Instance) -> list[Architecture]:
    """The architectures within the caps; UserError where there is none, or a cap has no cost to hold against."""
    archs, limits = list(instance.space.all()), instance.caps.limits
    known = instance.costs(archs[0])
    for cost in limits:
        if cost not in known:
            raise UserError(
                f"--max-{cost}: neither space nor table has the cost {cost!r}; known: {', '.join(known) or '-'}"
            )
    feasible = [arch for arch in archs if instance.caps.allow(instance.costs(arch))] if limits else archs
    if not feasible:
        raise UserError(
            f"no architecture is within {' and '.join(f'--max-{c} {v:g}' for c, v in limits.items())}; raise it"
        )
    return feasible


@lru_cache(maxsize=8)
def describe(spec: ProblemSpec) -> dict[str, Any]:
    """JSON values for the protocol line: what is searched and measured, with the table's hash."""
    if spec.kind in LANDSCAPES:
        size = "4-12" if spec.variables is None else str(spec.variables)
        kind = f"on {spec.space}" if spec.space else f"of {size} variables"
        if spec.cap_quantile is not None:
            kind += f" within the cheapest {spec.cap_quantile:.0%} by flops"
        said: dict[str, Any] = {
            "space": f"unseen landscapes {kind}, a new one each seed from {LANDSCAPES[spec.kind]}",
            "fitness": "noisy value",
            "report": ["true"],
        }
    else:
        instance = _fixed(spec)
        said = {"space": instance.space.name, "space_sha256": instance.space.digest(), **instance.evaluator.protocol()}
    return {
        "problem": spec.kind,
        **said,
        **({"caps": dict(spec.limits)} if spec.limits else {}),
        "relabelled": spec.relabel,
        **({"reordered": True} if spec.reorder else {}),
    }
