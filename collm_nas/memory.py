"""What every optimiser remembers: visited points, what they brought, and points that are still open."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from itertools import compress
from math import inf

from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError

_TRIES = 64  # random draws before a space is walked or enumerated
_ENUMERABLE = 100_000  # architectures; above this no search visits so many that random draws fail for want of new ones
_REPAIR_STEPS = 200


def stable_seed(name: str, seed: int) -> int:
    """A seed that is the same in every process (Python's `hash` of a text is not)."""
    return zlib.crc32(f"{name}/{seed}".encode())


class Memory:
    """Evaluations told so far, and new legal points within the caps."""

    def __init__(self, problem: Problem, name: str) -> None:
        self.problem = problem
        self.space = problem.space
        self.name = name
        self.rng = random.Random(stable_seed(name, problem.seed))
        self.visited: set[Architecture] = set()
        self.values: dict[Architecture, float] = {}
        """Fitness of every evaluated architecture, in the order they were told."""
        self.infeasible: set[Architecture] = set()
        self.pending: dict[Architecture, None] = {}
        """What was proposed and is being evaluated elsewhere, in order."""
        self._open: list[Architecture] | None = None

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn from all that was evaluated, whoever proposed it; what was refused is not proposed again."""
        for seen in observations:
            arch = seen.candidate.arch
            if arch is None or seen.verdict == "surplus":
                continue
            self.visited.add(arch)
            self.pending.pop(arch, None)
            if seen.verdict == "pending":
                self.pending[arch] = None
            if not seen.feasible:
                self.infeasible.add(arch)
            if seen.verdict == "evaluated" and seen.evaluation is not None:
                self.values[arch] = seen.evaluation.fitness

    def value(self, arch: Architecture) -> float:
        """Fitness, or minus infinity where it is unknown or over a cap: such a point can never be the best."""
        return -inf if arch in self.infeasible else self.values.get(arch, -inf)

    def best(self, n: int) -> list[Architecture]:
        """The `n` best feasible architectures, best first; ties in the order of evaluation."""
        feasible = [arch for arch in self.values if arch not in self.infeasible]
        return sorted(feasible, key=lambda arch: -self.values[arch])[:n]

    def excess(self, arch: Architecture) -> float:
        """By how much an architecture breaks the caps, as a sum of shares; 0 where all hold or none counts."""
        caps = self.problem.caps
        if not caps.limits or caps.over == "evaluate" or self.problem.costs is None:
            return 0.0
        costs = self.problem.costs(arch)
        return float(
            sum(max(0.0, costs[name] / limit - 1.0) if limit else costs[name] for name, limit in caps.limits.items())
        )

    def affordable(self, arch: Architecture) -> bool:
        """Whether the runner would evaluate it: within the caps, or caps that do not reject."""
        caps = self.problem.caps
        if not caps.limits or caps.over == "evaluate" or self.problem.costs is None:
            return True
        return caps.allow(self.problem.costs(arch))

    def is_new(self, arch: Architecture, taken: Sequence[Architecture] = ()) -> bool:
        """Neither visited nor already in this batch, and affordable."""
        return arch not in self.visited and arch not in taken and self.affordable(arch)

    def mutate(self, arch: Architecture, changes: int = 1) -> Architecture:
        """`changes` times another choice for one active variable, both uniform; what it switches on is drawn.

        In a space restricted to a table's rows, an illegal change is dropped (so the result may equal `arch`).
        """
        for _ in range(changes):
            active = compress(range(len(arch.choices)), self.space.active(arch.choices))
            free = [i for i in active if len(self.space.variables[i].choices) > 1]
            if not free:
                return arch
            arch = self._changed(arch, free[int(self.rng.random() * len(free))])
        return arch

    def _changed(self, arch: Architecture, position: int) -> Architecture:
        variables = self.space.variables
        choices = list(arch.choices)
        for i, on in enumerate(self.space.active(choices)):
            if not on:
                choices[i] = int(self.rng.random() * len(variables[i].choices))
        other = int(self.rng.random() * (len(variables[position].choices) - 1))
        choices[position] = other + (other >= choices[position])
        try:
            return self.space.make(choices)
        except UserError:
            return arch

    def new_mutant(self, parents: Sequence[Architecture], taken: Sequence[Architecture]) -> Architecture | None:
        """A new point one change from a random parent; None where a bounded search finds none."""
        for _ in range(_TRIES // 2 if parents else 0):
            child = self.mutate(parents[int(self.rng.random() * len(parents))])
            if self.is_new(child, taken):
                return child
        for parent in self.rng.sample(list(parents), min(3, len(parents))):
            fresh = [arch for arch in self.space.neighbors(parent) if self.is_new(arch, taken)]
            if fresh:
                return fresh[int(self.rng.random() * len(fresh))]
        return None

    def new_random(self, taken: Sequence[Architecture] = ()) -> Architecture | None:
        """A random new point; None only where there is none left (or, in a large space, none within the caps)."""
        for _ in range(_TRIES):
            arch = self.space.sample(self.rng)
            if self.is_new(arch, taken):
                return arch
        if self.space.size <= _ENUMERABLE:
            return self._one_of_the_open(taken)
        for _ in range(_TRIES):
            arch = self.within_caps(self.space.sample(self.rng))
            if self.is_new(arch, taken):
                return arch
        return None

    def _one_of_the_open(self, taken: Sequence[Architecture]) -> Architecture | None:
        if self._open is None:
            self._open = [arch for arch in self.space.all() if self.affordable(arch)]
        self._open = [arch for arch in self._open if arch not in self.visited]
        left = [arch for arch in self._open if arch not in taken] if taken else self._open
        return left[int(self.rng.random() * len(left))] if left else None

    def within_caps(self, arch: Architecture, score: Callable[[Architecture], float] | None = None) -> Architecture:
        """Single changes that lower the excess over the caps, until none is left or no change helps.

        With a score, the change that loses least for what it saves is taken; else a random one.
        """
        excess = self.excess(arch)
        for _ in range(_REPAIR_STEPS):
            if excess <= 0:
                break
            lower = [(e, a) for a in self.space.neighbors(arch) if (e := self.excess(a)) < excess]
            if not lower:
                break
            if score is None:
                excess, arch = lower[int(self.rng.random() * len(lower))]
            else:
                excess, arch = self._cheapest_step(arch, excess, lower, score)
        return arch

    def _cheapest_step(
        self,
        arch: Architecture,
        excess: float,
        lower: Sequence[tuple[float, Architecture]],
        score: Callable[[Architecture], float],
    ) -> tuple[float, Architecture]:
        here = score(arch)

        def price(step: tuple[float, Architecture]) -> tuple[int, float]:
            loss = here - score(step[1])
            # A step that costs nothing comes first, the one that gains most; else loss for each unit saved.
            return (0, loss) if loss <= 0 else (1, loss / (excess - step[0]))

        return min(lower, key=price)

    def candidates(self, archs: Sequence[Architecture]) -> list[Candidate]:
        """These architectures as this optimiser's proposals."""
        return [Candidate(arch, self.name, self.space.format(arch)) for arch in archs]

    def fill(self, taken: list[Architecture], n: int) -> list[Candidate]:
        """`taken` and random new points up to `n`."""
        while len(taken) < n and (arch := self.new_random(taken)) is not None:
            taken.append(arch)
        return self.candidates(taken)
