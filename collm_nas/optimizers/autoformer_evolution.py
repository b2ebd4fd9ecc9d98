"""The evolutionary search of AutoFormer (microsoft/Cream @ 4a13c40, `AutoFormer/evolution.py`).

Population 50; parents are the best 10 of everything evaluated; a generation has 25 mutants and 25 crossovers, and
random ones where those were not found in 10 tries for each, every try with parents of its own. A mutant redraws depth
and embedding width with probability 0.4 each, and every layer's MLP ratio and number of heads with 0.2 each, maybe to
what it was; a deeper one gets random new layers at its end, a shallower one is cut. A crossover takes each entry from
either of two parents of equal depth, for which it looks 50 times. As in the official code, which runs 20 generations
(`--budget 1050`) and, should it find no such pair, cuts the longer encoding, which may spell nothing: here that try is
given up. `_population.py` says what else differs.

In other spaces, a layer's entry is a variable with a condition, or a numbered one (`mlp3`) on which no other depends;
parents of equal depth are parents with the same active variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collm_nas.api import Architecture, Problem, Variable
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

NAME = "autoformer-evolution"
PAIRS = 50
"""Looks for two parents of equal depth."""


class Rules:
    """How a child is drawn from the best."""

    def __init__(self, memory: Memory, m_prob: float, s_prob: float) -> None:
        self._space, self._rng = memory.space, memory.rng
        layers = layer_entries(memory.space.variables)
        self._genes = [((i,), m_prob if of_layer else s_prob) for i, of_layer in enumerate(layers)]

    def mutant(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """One try at a child of one parent; the layers that it lacks are drawn, so a deeper child's tail is random."""
        parent = filled(self._space, self._rng.choice(best), self._rng)
        yield made(self._space, redrawn(self._space, parent, self._genes, self._rng))

    def crossover(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """One try at a child of two parents of equal depth; none where no such pair was found."""
        for _ in range(PAIRS):
            first, second = self._rng.choice(best), self._rng.choice(best)
            if self._space.active(first.choices) == self._space.active(second.choices):
                yield made(self._space, crossed(first.choices, second.choices, self._rng))
                return


def layer_entries(variables: Sequence[Variable]) -> list[bool]:
    """Which variables describe one layer, by their conditions, else by a number at the end of their names."""
    switches = {parent for variable in variables for parent, _ in variable.active_if}
    return [bool(v.active_if) or (i not in switches and v.name[-1:].isdigit()) for i, v in enumerate(variables)]


def create(
    problem: Problem,
    population: int | None = None,
    parents: float = 0.2,
    mutate: float = 0.5,
    crossover: float = 0.5,
    m_prob: float = 0.2,
    s_prob: float = 0.4,
) -> Generations:
    """AutoFormer's evolution. `parents`, `mutate`, `crossover`: shares of the population; `m_prob`: that an entry of a
    layer changes; `s_prob`: that depth, or width, does.

    Raises UserError for a share or probability outside 0..1, or more children than the population.
    """
    population = population_of(problem, population, 50)
    memory = Memory(problem, NAME)
    rules = Rules(memory, fraction(NAME, "m_prob", m_prob), fraction(NAME, "s_prob", s_prob))
    mutants, crossovers = children(NAME, population, mutate, crossover)
    best = max(1, share(NAME, population, "parents", parents))
    return Generations(memory, population, best, [(rules.mutant, mutants), (rules.crossover, crossovers)])
