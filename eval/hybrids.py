"""The models together with a classical optimiser: rows of their own in a benchmark (`collm:variant=screened`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from collm_nas.api import Architecture, Candidate, Observation, Optimizer, Problem
from collm_nas.optimizers import gp_exp, local_search
from collm_nas.optimizers.gp import GaussianProcess, Similarity

OFFERS = 4
"""Proposals of the models for each that is evaluated."""


class Screened(GaussianProcess):
    """The models propose four times as many as are evaluated, a Gaussian process takes those of the highest expected
    improvement; what it leaves it may take later."""

    def __init__(self, problem: Problem, models: Optimizer, similarity: Similarity | None = None) -> None:
        """`similarity`: of another process than that of `gp`."""
        super().__init__(problem, similarity=similarity)
        self._models = models
        self._offered: dict[Architecture, Candidate] = {}

    def ask(self, n: int) -> list[Candidate]:
        """The best `n` of all proposals that were not evaluated yet."""
        for candidate in self._models.ask(OFFERS * n):
            if candidate.arch is not None and self._memory.is_new(candidate.arch):
                self._offered.setdefault(candidate.arch, candidate)
        pool = list(self._offered)
        if len(self._memory.values) < 2:
            taken = pool[:n]
        else:
            taken = self.pick(pool, self._similarity.rows(self._memory.space, pool), n) if pool else []
        return [self._offered.pop(arch) for arch in taken]

    def tell(self, observations: Sequence[Observation]) -> None:
        """Both learn."""
        super().tell(observations)
        self._models.tell(observations)


class Seeding:
    """One round of the models, then local search from the best point known."""

    def __init__(self, problem: Problem, models: Optimizer) -> None:
        self._climber, self._models = local_search.create(problem), models
        self._seen: list[Observation] = []
        self._asked = False

    def ask(self, n: int) -> list[Candidate]:
        """From the models once, then from local search."""
        if not self._asked:
            self._asked = True
            return self._models.ask(n)
        if self._seen:
            self._climber.tell(self._seen)
            self._seen = []
        return self._climber.ask(n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """The models hear of the starting points alone."""
        if not self._asked:
            self._models.tell(observations)
        self._seen += observations


HYBRIDS: dict[str, Callable[[Problem, Optimizer], Optimizer]] = {
    "screened": Screened,
    "screened-exp": partial(Screened, similarity=gp_exp.SIMILARITY),
    "seeding": Seeding,
}
