"""`local-evidence`: draws around the best point from what the digest (version 2) says of its single changes, no model.

For each candidate, every variable takes the choice of the highest expected gain, with the beliefs' standard deviations
times `spread` as noise: a posterior sample that takes single changes as independent. What was visited is drawn again,
then a new mutant of one of the best. `spread` was chosen on synthetic validation landscapes (docs/LOG.md): 1 would be
Thompson sampling and changes too many variables at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError
from collm_nas.evidence import Local, highest, local, total
from collm_nas.memory import Memory, stable_seed

BEST = 12  # points that the digest lists
DRAWS = 12  # before giving up: late in a search most draws agree on points long visited


class LocalEvidence:
    """`api.Optimizer`; `spread` is the share of the doubts that is drawn."""

    def __init__(self, problem: Problem, spread: float) -> None:
        self._memory = Memory(problem, "local-evidence")
        self._numpy_rng = np.random.default_rng(stable_seed("local-evidence", problem.seed))
        self._spread = spread

    def ask(self, n: int) -> list[Candidate]:
        """`n` candidates from the evidence, random ones where there is none yet."""
        memory = self._memory
        best = memory.best(BEST)
        if not best:
            return memory.fill([], n)
        found = local(memory.space, list(memory.values), list(memory.values.values()), best[0])
        taken: list[Architecture] = []
        for _ in range(n):
            arch = self._drawn(found, taken) or memory.new_mutant(best, taken)
            if arch is not None:
                taken.append(arch)
        return memory.fill(taken, n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn from every evaluation."""
        self._memory.tell(observations)

    def _drawn(self, found: Local, taken: list[Architecture]) -> Architecture | None:
        space = self._memory.space
        for _ in range(DRAWS):
            noise_D = self._numpy_rng.standard_normal(len(found.mean_D))
            gain_D = found.mean_D + self._spread * found.sd_D * noise_D
            top = space.make(highest(space, gain_D, found.offsets))
            arch = self._memory.within_caps(top, partial(total, space, gain_D, found.offsets))
            if self._memory.is_new(arch, taken):
                return arch
        return None


def create(problem: Problem, spread: float = 0.5) -> LocalEvidence:
    """Draws from beliefs about single changes of the best point; UserError unless `spread` is above 0."""
    if not spread > 0.0:
        raise UserError(f"local-evidence: spread {spread} must be above 0, the share of the doubts that is drawn")
    return LocalEvidence(problem, spread)
