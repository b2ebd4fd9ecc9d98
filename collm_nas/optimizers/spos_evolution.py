"""The evolutionary search of Single Path One-Shot (megvii-model/SinglePathOneShot @ 36eed6c, `src/Search`).

Population 50; parents are the best 10 of everything evaluated; a generation has 25 mutants and 25 crossovers, and
random ones where those were not found in 10 tries for each, every try with parents of its own. A mutant redraws each
position with probability 0.1, maybe to what it was; a crossover takes each position from either of two parents, which
may be one and the same. No architecture is evaluated twice. All this is as in the official code, which runs 20
generations (`--budget 1050`) and ranks by top-1 and then top-5 error, where here fitness is one number;
`_population.py` says what else differs.

In a space with conditions every variable is a position; an inactive one holds a random choice, drawn at each try.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collm_nas.api import Architecture, Problem
from collm_nas.memory import Memory
from collm_nas.optimizers._population import (
    Generations,
    children,
    crossed,
    filled,
    fraction,
    made,
    population_of,
    redrawn,
    share,
)

NAME = "spos-evolution"


class Rules:
    """How a child is drawn from the best."""

    def __init__(self, memory: Memory, m_prob: float) -> None:
        self._space, self._rng = memory.space, memory.rng
        self._genes = [((i,), m_prob) for i in range(len(memory.space.variables))]

    def mutant(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """One try at a child of one parent."""
        parent = filled(self._space, self._rng.choice(best), self._rng)
        yield made(self._space, redrawn(self._space, parent, self._genes, self._rng))

    def crossover(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """One try at a child of two parents."""
        first, second = (filled(self._space, self._rng.choice(best), self._rng) for _ in range(2))
        yield made(self._space, crossed(first, second, self._rng))


def create(
    problem: Problem,
    population: int | None = None,
    parents: float = 0.2,
    mutate: float = 0.5,
    crossover: float = 0.5,
    m_prob: float = 0.1,
) -> Generations:
    """SPOS's evolution. `parents`, `mutate`, `crossover`: shares of the population; `m_prob`: that a position changes.

    Raises UserError for a share or probability outside 0..1, or more children than the population.
    """
    population = population_of(problem, population, 50)
    memory = Memory(problem, NAME)
    rules = Rules(memory, fraction(NAME, "m_prob", m_prob))
    mutants, crossovers = children(NAME, population, mutate, crossover)
    best = max(1, share(NAME, population, "parents", parents))
    return Generations(memory, population, best, [(rules.mutant, mutants), (rules.crossover, crossovers)])
