"""`digest-only`: a sampler with exactly the model's evidence and no model: the rival that shows what the model adds.

For each candidate it flips a coin between the digest's two parts: (a) Thompson: a draw from the ridge posterior, and
the draw's best choice in every active variable, in order; (b) a mutation of one of the best 12 points. It never
repeats: a part that only finds visited points hands over to the other, then to random points.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError
from collm_nas.evidence import Ridge, draw, highest, ridge, total
from collm_nas.memory import Memory, stable_seed

Floats = NDArray[np.float64]
BEST = 12  # points that the digest lists
DRAWS = 12  # Thompson draws before giving up: late in a search most draws agree on points long visited


class DigestOnly:
    """`api.Optimizer`; `thompson` is the coin's chance for part (a)."""

    def __init__(self, problem: Problem, thompson: float) -> None:
        self._memory = Memory(problem, "digest-only")
        self._numpy_rng = np.random.default_rng(stable_seed("digest-only", problem.seed))
        self._thompson = thompson

    def ask(self, n: int) -> list[Candidate]:
        """`n` candidates from the evidence, random ones where there is none yet."""
        memory = self._memory
        if not memory.values:
            return memory.fill([], n)
        evidence = ridge(memory.space, list(memory.values), list(memory.values.values()))
        best = memory.best(BEST)
        taken: list[Architecture] = []
        for _ in range(n):
            arch = self._one(evidence, best, taken)
            if arch is not None:
                taken.append(arch)
        return memory.fill(taken, n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn from every evaluation."""
        self._memory.tell(observations)

    def _one(self, evidence: Ridge, best: list[Architecture], taken: list[Architecture]) -> Architecture | None:
        if self._memory.rng.random() < self._thompson:
            return self._drawn(evidence, taken) or self._memory.new_mutant(best, taken)
        return self._memory.new_mutant(best, taken) or self._drawn(evidence, taken)

    def _drawn(self, evidence: Ridge, taken: list[Architecture]) -> Architecture | None:
        space = self._memory.space
        for _ in range(DRAWS):
            weights_D = draw(evidence, self._numpy_rng)
            top = space.make(highest(space, weights_D, evidence.offsets))
            arch = self._memory.within_caps(top, partial(total, space, weights_D, evidence.offsets))
            if self._memory.is_new(arch, taken):
                return arch
        return None


def create(problem: Problem, thompson: float = 0.5) -> DigestOnly:
    """The model's evidence without a model; UserError unless 0 <= thompson <= 1."""
    if not 0.0 <= thompson <= 1.0:
        raise UserError(f"digest-only: thompson {thompson} must lie in 0..1, the share of Thompson draws")
    return DigestOnly(problem, thompson)
