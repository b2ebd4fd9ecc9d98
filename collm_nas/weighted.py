"""Several objectives for an optimiser that knows one: weights are drawn again and again, and all is valued by them.

As in ParEGO (Knowles, 2006), with the augmented Chebyshev function: the search is for the point of the front that the
weights lean to, and the draws are spread over all of it. The optimiser is told every known evaluation again, with the
value that it has under the new weights, so that a digest shows evidence on what this draw is after.

Each candidate has a draw of its own, which finds more of the front than one for a whole batch (docs/LOG.md), but with
the language models, whose rounds are one call for all candidates.

Weights come from the seed and the number of the draw alone: a resumed search draws them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from collm_nas import pareto
from collm_nas.api import Candidate, Observation, Optimizer, Problem
from collm_nas.objectives import losses
from collm_nas.pareto import Point

AUGMENTED = 0.05
"""Share of the weighted sum in the value (Knowles has the same): of two points equally far behind in what counts most,
the one that is better elsewhere."""


def weights(seed: int, number: int, objectives: int) -> Point:
    """The weights of the draw of this number: evenly over the simplex, in an order that soon covers it.

    Additive recurrence by powers of the generalised golden ratio (for two objectives the golden ratio itself), begun at
    a random place; gaps between sorted uniform numbers are uniform on the simplex.
    """
    rng = Random(f"weights/{seed}")
    dimensions = objectives - 1
    ratio = 2.0
    for _ in range(64):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    cuts = sorted((rng.random() + number * ratio ** -(d + 1)) % 1.0 for d in range(dimensions))
    return tuple(high - low for low, high in zip([0.0, *cuts], [*cuts, 1.0], strict=True))


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of each objective on the front: 0 is the best known, 1 the worst that a front's point has."""

    best: Point
    spans: Point

    @staticmethod
    def of(points: Sequence[Point]) -> Scale:
        """From what is known; where the front has one value of an objective, the range of all points counts."""
        columns = list(zip(*points, strict=True))
        fronts = list(zip(*(points[i] for i in pareto.front(points)), strict=True))
        spans = ((max(f) - min(f)) or (max(c) - min(c)) or 1.0 for f, c in zip(fronts, columns, strict=True))
        return Scale(tuple(min(c) for c in columns), tuple(spans))

    def value(self, point: Point, weight: Point) -> float:
        """The augmented Chebyshev function, turned so that higher is better and the ideal point has 0."""
        behind = [w * (x - b) / s for x, b, s, w in zip(point, self.best, self.spans, weight, strict=True)]
        return -(max(behind) + AUGMENTED * sum(behind))


class Weighted:
    """`api.Optimizer` of several objectives around one of fitness alone, which may be told an architecture again."""

    def __init__(self, problem: Problem, optimizer: Optimizer, each: bool = True) -> None:
        """`optimizer`: made for the same problem with one objective (see `single`). `each`: weights a candidate."""
        self._objectives, self._seed = problem.objectives, problem.seed
        self._optimizer, self._each = optimizer, each
        self._known: list[Observation] = []
        self._draws = 0
        self._weights = weights(self._seed, 0, len(self._objectives))
        self._scale: Scale | None = None

    def ask(self, n: int) -> list[Candidate]:
        """The optimiser's candidates, one for each draw of the weights, or all for one."""
        if not self._each:
            return self._drawn(n)
        found: list[Candidate] = []
        while len(found) < n and (fresh := self._drawn(1)):
            found += fresh
            # Until they are evaluated they count as known, so that the rest of the batch is others.
            self._optimizer.tell([Observation(candidate, "repeated") for candidate in fresh])
        return found

    def _drawn(self, n: int) -> list[Candidate]:
        self._draws += 1
        self._weights = weights(self._seed, self._draws, len(self._objectives))
        if self._known:
            self._scale = self._fresh()
            self._optimizer.tell([self._valued(seen) for seen in self._known])
        return self._optimizer.ask(n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Passed on with values under the weights and the scale by which the last candidates were asked for."""
        self._known += [seen for seen in observations if seen.evaluation is not None]
        if self._known and self._scale is None:
            self._scale = self._fresh()
        self._optimizer.tell([self._valued(seen) for seen in observations])

    def _fresh(self) -> Scale:
        """The scale of what is within the caps; of everything, where that is nothing."""
        feasible = [seen for seen in self._known if seen.feasible]
        return Scale.of([self._losses(seen) for seen in feasible or self._known])

    def _losses(self, seen: Observation) -> Point:
        assert seen.evaluation is not None
        return losses(seen.evaluation.fitness, seen.evaluation.costs, self._objectives)

    def _valued(self, seen: Observation) -> Observation:
        if seen.evaluation is None or self._scale is None:
            return seen
        value = self._scale.value(self._losses(seen), self._weights)
        return replace(seen, evaluation=replace(seen.evaluation, fitness=value, error=None))


def around(problem: Problem, make: Callable[[Problem], Optimizer], each: bool = True) -> Optimizer:
    """What `make` makes of the problem, if that has one objective, else of it with the first one, under weights."""
    if len(problem.objectives) == 1:
        return make(problem)
    return Weighted(problem, make(single(problem)), each)


def single(problem: Problem) -> Problem:
    """The problem as the optimiser inside sees it."""
    return replace(problem, objectives=problem.objectives[:1])
