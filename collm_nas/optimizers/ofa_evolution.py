"""The evolutionary search of Once-for-All (mit-han-lab/once-for-all @ f03b267: `EvolutionFinder` of the tutorial and of
`ofa.nas`).

Population 100; parents are the best quarter of everything evaluated; a generation has 50 mutants and 50 crossovers. A
mutant redraws each block slot (kernel and expansion together) and each depth with probability 0.1, and the resolution
with 0.1 as in the tutorial (`r_prob=0.5`: as in `ofa.nas`), maybe to what it was; a crossover takes each entry, kernel
and expansion apart, from either of two parents, which may be one and the same. Slots that the depth leaves out are
entries too: they are redrawn and crossed over unseen, and a deeper descendant shows them. A child over the cap is drawn
again from the same parents. As in the official code, which runs 500 generations (`--budget 50100`, calls of an accuracy
predictor). What differs, besides what `_population.py` says:

- Only new architectures are proposed, each once, where the official search may score one again (and keep it twice
  among the parents): a known child, too, is drawn again from the same parents, `REDRAWS` times, then from others.
- The official search redraws without end where no child is within its limit.

In other spaces, variables `ks<n>` and `e<n>` of one number are one slot, `r` is the resolution, and every other
variable is an entry of its own. What was not proposed here gets random choices in its inactive slots, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collm_nas.api import Architecture, Problem, Variable
from collm_nas.memory import Memory
from collm_nas.optimizers._population import (
    Gene,
    Generations,
    crossed,
    filled,
    fraction,
    made,
    population_of,
    redrawn,
    share,
)

NAME = "ofa-evolution"
REDRAWS = 20


class Rules:
    """How a child is drawn from the best; remembers the choices in inactive slots."""

    def __init__(self, memory: Memory, m_prob: float, r_prob: float) -> None:
        self._space, self._rng = memory.space, memory.rng
        self._genes = genes(memory.space.variables, m_prob, r_prob)
        self._whole: dict[Architecture, list[int]] = {}

    def mutant(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """Children of one parent."""
        parent = self._choices(self._rng.choice(best))
        for _ in range(REDRAWS):
            yield self._made(redrawn(self._space, parent, self._genes, self._rng))

    def crossover(self, best: Sequence[Architecture]) -> Iterator[Architecture | None]:
        """Children of two parents."""
        first, second = self._choices(self._rng.choice(best)), self._choices(self._rng.choice(best))
        for _ in range(REDRAWS):
            yield self._made(crossed(first, second, self._rng))

    def _choices(self, arch: Architecture) -> list[int]:
        if arch not in self._whole:
            self._whole[arch] = filled(self._space, arch, self._rng)
        return self._whole[arch]

    def _made(self, choices: list[int]) -> Architecture | None:
        arch = made(self._space, choices)
        if arch is not None:
            self._whole.setdefault(arch, choices)
        return arch


def genes(variables: Sequence[Variable], m_prob: float, r_prob: float) -> list[Gene]:
    """The entries that are redrawn together: a block's kernel and expansion, all others alone."""
    slots: dict[str, list[int]] = {}
    for i, variable in enumerate(variables):
        name, number = variable.name.rstrip("0123456789"), variable.name.lstrip("kse")
        slot = f"block {number}" if name in ("ks", "e") and number else variable.name
        slots.setdefault(slot, []).append(i)
    return [(tuple(positions), r_prob if slot == "r" else m_prob) for slot, positions in slots.items()]


def create(
    problem: Problem,
    population: int | None = None,
    parents: float = 0.25,
    mutate: float = 0.5,
    m_prob: float = 0.1,
    r_prob: float = 0.1,
) -> Generations:
    """OFA's evolution. `parents`, `mutate`: shares of the population; the children that are no mutants are crossovers.
    `m_prob`: that a slot or depth changes; `r_prob`: that the resolution does.

    Raises UserError for a share or probability outside 0..1.
    """
    population = population_of(problem, population, 100)
    memory = Memory(problem, NAME)
    rules = Rules(memory, fraction(NAME, "m_prob", m_prob), fraction(NAME, "r_prob", r_prob))
    mutants = share(NAME, population, "mutate", mutate)
    best = max(1, share(NAME, population, "parents", parents))
    return Generations(memory, population, best, [(rules.mutant, mutants), (rules.crossover, population - mutants)])
