"""Local search with random restarts (White et al., arXiv 2005.02960).

Starts at the best of the points it was told. `move="first"` (default) queries the neighbours in random order and moves
after the first batch that holds a better one, to the best known neighbour (the paper's variant "query until lower");
`move="best"` queries the whole neighbourhood before moving to its best. A point without a better neighbour is a local
optimum: the next climb starts at a random new point. A neighbour that was evaluated before is not queried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError
from collm_nas.memory import Memory


class LocalSearch:
    """`api.Optimizer` that climbs from one current point."""

    def __init__(self, problem: Problem, move: Literal["first", "best"]) -> None:
        self._memory = Memory(problem, "local-search")
        self._move = move
        self._current: Architecture | None = None
        self._neighbors: list[Architecture] = []

    def ask(self, n: int) -> list[Candidate]:
        """Up to `n` neighbours (fewer at a neighbourhood's end), or the one point where the next climb starts."""
        fresh = self._climb()
        if not fresh:
            self._current = None
            return self._memory.fill([], 1)
        return self._memory.candidates(fresh[:n])

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn; without a current point, the best one told becomes it."""
        self._memory.tell(observations)
        told = [o.candidate.arch for o in observations if o.verdict == "evaluated" and o.candidate.arch is not None]
        if self._current is None and told:
            self._stand_at(max(told, key=self._memory.value))

    def _stand_at(self, arch: Architecture) -> None:
        self._current = arch
        self._neighbors = self._memory.space.neighbors(arch)
        self._memory.rng.shuffle(self._neighbors)

    def _climb(self) -> list[Architecture]:
        """Moves as far as known values allow; the neighbours still to be queried (none at a local optimum)."""
        while self._current is not None:
            fresh = [arch for arch in self._neighbors if self._memory.is_new(arch)]
            if fresh and self._move == "best":
                return fresh
            top = max(self._neighbors, key=self._memory.value, default=self._current)
            if self._memory.value(top) <= self._memory.value(self._current):
                return fresh
            self._stand_at(top)
        return []


def create(problem: Problem, move: Literal["first", "best"] = "first") -> LocalSearch:
    """Local search; `move` says when it leaves a point. Raises UserError for another word."""
    if move not in ("first", "best"):
        raise UserError(f"local-search: move {move!r} is unknown; legal: first, best")
    return LocalSearch(problem, move)
