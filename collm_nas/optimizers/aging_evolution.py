"""Aging (regularized) evolution (Real et al., arXiv 1802.01548): tournament selection, the oldest dies.

The population is the last `population` evaluations, whoever proposed them; until it is full, proposals are random. A
child is its parent with another choice for one variable. Defaults 20 and 5: a population for budgets of about 100.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError
from collm_nas.memory import Memory


class AgingEvolution:
    """`api.Optimizer`; a batch holds children of one and the same population."""

    def __init__(self, problem: Problem, population: int, tournament: int) -> None:
        self._memory = Memory(problem, "aging-evolution")
        self._tournament = tournament
        self._population: deque[Architecture] = deque(maxlen=population)

    def ask(self, n: int) -> list[Candidate]:
        """`n` children, random points where the population is not full or a family has no new members."""
        taken: list[Architecture] = []
        missing = (self._population.maxlen or 0) - len(self._population)
        for _ in range(max(0, n - missing) if self._population else 0):
            child = self._memory.new_mutant([self._parent()], taken)
            if child is not None:
                taken.append(child)
        return self._memory.fill(taken, n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Evaluated points enter in order; those over a cap lose every tournament."""
        self._memory.tell(observations)
        for seen in observations:
            if seen.verdict == "evaluated" and seen.candidate.arch is not None:
                self._population.append(seen.candidate.arch)

    def _parent(self) -> Architecture:
        rivals = self._memory.rng.sample(list(self._population), min(self._tournament, len(self._population)))
        return max(rivals, key=self._memory.value)


def create(problem: Problem, population: int = 20, tournament: int = 5) -> AgingEvolution:
    """Aging evolution; UserError unless 1 <= tournament <= population."""
    if not 1 <= tournament <= population:
        raise UserError(f"aging-evolution: tournament {tournament} must lie in 1..population ({population})")
    return AgingEvolution(problem, population, tournament)
