"""What the official evolutionary searches of OFA, SPOS and AutoFormer share: a random population, then generations that
are bred from the best of everything evaluated so far.

All three keep the best with their scores and select again among those and the new ones, which is to select among
everything ever evaluated. A generation is planned at once, when the one before it has been told, and handed out in
batches, so that its last batch may be smaller. Differences to the official codes, in all three:

- The budget ends the search, in the middle of a generation too, not a number of generations; the last one counts like
  all others (officially nobody selects from it, though SPOS's evaluation script looks at everything visited).
- What was evaluated before (`--init`, `--start-from`) belongs to the first population. Of equals the earlier is better
  (OFA: the later).
- Left to itself a population is the official one only where the budget holds five of them, else a fifth of the budget.
- Official constraints may be bounds from below too; here they are the caps. With `--over-cap evaluate` a point over a
  cap counts for the size of the first population, but is never a parent.
- Every loop is bounded: what a rule cannot fill in `TRIES` tries for each child wanted is filled with random ones (as
  SPOS and AutoFormer do), which tight caps and small spaces find by walking and listing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from collm_nas.api import Architecture, Candidate, Observation, Problem, SearchSpace, UserError
from collm_nas.memory import Memory

TRIES = 10
"""Choices of parents for each child wanted: the official bound of SPOS and AutoFormer."""

GENERATIONS, SMALLEST = 5, 4
"""Generations that a search has at least where the population's size is left open, and the least size then."""

Rule = Callable[[Sequence[Architecture]], Iterable[Architecture | None]]
"""Chooses parents among the best and draws a child of theirs, until one is new (None: this one was not legal)."""

Gene = tuple[tuple[int, ...], float]
"""Positions of variables that are redrawn together, and with which probability."""


class Generations:
    """`api.Optimizer` of one population; `rules` are (rule, children in a generation), in this order."""

    def __init__(self, memory: Memory, population: int, parents: int, rules: Sequence[tuple[Rule, int]]) -> None:
        self._memory, self._population, self._parents, self._rules = memory, population, parents, rules
        self._planned: list[Architecture] = []

    def ask(self, n: int) -> list[Candidate]:
        """Up to `n` of the present generation; when none of it is left, of the next one."""
        self._planned = [arch for arch in self._planned if arch not in self._memory.visited]
        if not self._planned:
            self._planned = self._generation()
        batch, self._planned = self._planned[:n], self._planned[n:]
        return self._memory.candidates(batch)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn from all that was evaluated, whoever proposed it."""
        self._memory.tell(observations)

    def _generation(self) -> list[Architecture]:
        """What the first population lacks; once it is whole, children, and random ones in place of missing ones."""
        size = self._population - len(self._memory.values)
        planned: list[Architecture] = []
        if size <= 0:
            size = self._population
            for rule, wanted in self._rules:
                self._breed(rule, wanted, planned)
        while len(planned) < size and (arch := self._memory.new_random(planned)) is not None:
            planned.append(arch)
        return planned

    def _breed(self, rule: Rule, wanted: int, planned: list[Architecture]) -> None:
        """Append up to `wanted` new children of the best."""
        best = self._memory.best(self._parents)
        goal = len(planned) + wanted
        for _ in range(TRIES * wanted if best else 0):
            if len(planned) == goal:
                break
            for child in rule(best):
                if child is not None and self._memory.is_new(child, planned):
                    planned.append(child)
                    break


# --- choices: one a variable, of the inactive ones too ----------------------------------------------------------------


def filled(space: SearchSpace, arch: Architecture, rng: random.Random) -> list[int]:
    """The choices of `arch`, with inactive variables drawn uniformly (an `Architecture` holds none for them)."""
    active = space.active(arch.choices)
    return [
        choice if on else rng.randrange(len(variable.choices))
        for choice, on, variable in zip(arch.choices, active, space.variables, strict=True)
    ]


def redrawn(space: SearchSpace, choices: Sequence[int], genes: Sequence[Gene], rng: random.Random) -> list[int]:
    """Each gene drawn anew with its probability, uniformly: it may come out as it was."""
    changed = list(choices)
    for positions, probability in genes:
        if rng.random() < probability:
            for i in positions:
                changed[i] = rng.randrange(len(space.variables[i].choices))
    return changed


def crossed(first: Sequence[int], second: Sequence[int], rng: random.Random) -> list[int]:
    """Each choice from either parent, uniformly."""
    return [rng.choice(pair) for pair in zip(first, second, strict=True)]


def made(space: SearchSpace, choices: Sequence[int]) -> Architecture | None:
    """The architecture of these choices; None where it is no row of the table that covers the space."""
    try:
        return space.make(choices)
    except UserError:
        return None


# --- options ----------------------------------------------------------------------------------------------------------


def population_of(problem: Problem, asked: Any, official: int) -> Any:
    """What was asked for; else the official size, or a fifth of a budget that does not hold five such generations."""
    return asked if asked is not None else min(official, max(SMALLEST, problem.budget // GENERATIONS))


def children(name: str, population: Any, mutate: Any, crossover: Any) -> tuple[int, int]:
    """How many mutants and crossovers a generation has; UserError where their shares exceed it."""
    mutants, crossovers = share(name, population, "mutate", mutate), share(name, population, "crossover", crossover)
    if mutate + crossover > 1:
        raise UserError(f"{name}: mutate {mutate} and crossover {crossover} must together be at most 1")
    return mutants, min(crossovers, population - mutants)


def share(name: str, population: Any, option: str, value: Any) -> int:
    """This share of the population, rounded; UserError unless it is one, of a whole number of at least 2."""
    if not isinstance(population, int) or population < 2:
        raise UserError(f"{name}: population {population!r} must be a whole number of at least 2")
    return round(fraction(name, option, value, "a share of the population") * population)


def fraction(name: str, option: str, value: Any, what: str = "a probability") -> float:
    """`value` as a number; UserError unless it lies in 0..1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name}: {option} {value!r} must be {what}, from 0 to 1")
    return float(value)
