"""Random search: each active variable uniformly, never the same point twice."""

from __future__ import annotations

from collections.abc import Sequence

from collm_nas.api import Candidate, Observation, Problem
from collm_nas.memory import Memory


class RandomSearch:
    """`api.Optimizer` that ignores what it hears, but for not repeating it."""

    def __init__(self, problem: Problem) -> None:
        self._memory = Memory(problem, "random")

    def ask(self, n: int) -> list[Candidate]:
        """`n` new points; fewer where fewer are left."""
        return self._memory.fill([], n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Remember what was visited."""
        self._memory.tell(observations)


def create(problem: Problem) -> RandomSearch:
    """Random search without repeats."""
    return RandomSearch(problem)
