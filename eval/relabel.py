"""Controls: the same problem with the choices of every variable, or the variables themselves, in another order.

Whoever profits from knowing that choice 3 is good (or that later choices are larger, or later variables matter more)
loses it; whoever learns in the search does not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from collm_nas.api import Architecture, Evaluation, Evaluator, Variable
from collm_nas.spaces.base import CategoricalSpace


class RelabelledSpace(CategoricalSpace):
    """`original` in another order: variable `j` is the original's variable `places[j]`, and its choice `c` is there
    choice `order[places[j]][c]`. Names move along."""

    def __init__(
        self, original: CategoricalSpace, order: Sequence[Sequence[int]], places: Sequence[int] | None = None
    ) -> None:
        """`places` None: variables stay; else parents come before what depends on them, and the native form is the
        plain one."""
        self.order = tuple(tuple(positions) for positions in order)
        self.places = tuple(range(len(original.variables)) if places is None else places)
        self.original = original
        super().__init__(
            f"{original.name}-relabelled",
            [self._moved(i, original.variables[i]) for i in self.places],
            template=original.template if places is None and original.speller("native") is original else None,
            description=original.description,
        )
        if original.edges is not None:
            self.edges = tuple(original.edges[i] for i in self.places)

    def _moved(self, i: int, variable: Variable) -> Variable:
        conditions = tuple(
            (self.places.index(parent), frozenset(new for new, old in enumerate(self.order[parent]) if old in allowed))
            for parent, allowed in variable.active_if
        )
        return Variable(variable.name, tuple(variable.choices[c] for c in self.order[i]), conditions)

    def to_original(self, arch: Architecture) -> Architecture:
        """The original's architecture."""
        moved = dict(zip(self.places, arch.choices, strict=True))
        return self.original.make([self.order[i][moved[i]] for i in range(len(moved))])

    def from_original(self, arch: Architecture) -> Architecture:
        """This space's architecture of one of the original."""
        flags = self.original.active(arch.choices)
        moved = [self.order[i].index(c) if flags[i] else 0 for i, c in enumerate(arch.choices)]
        return Architecture(self.name, tuple(moved[i] for i in self.places))

    def cost(self, arch: Architecture) -> dict[str, float]:
        """The original's."""
        return self.original.cost(self.to_original(arch))


class RelabelledEvaluator:
    """Translates and asks the original evaluator."""

    def __init__(self, evaluator: Evaluator, space: RelabelledSpace) -> None:
        self._evaluator, self._space = evaluator, space

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """The original's evaluations."""
        return self._evaluator.evaluate([self._space.to_original(arch) for arch in archs])

    def costs(self, arch: Architecture) -> dict[str, float]:
        """The original's costs."""
        return self._evaluator.costs(self._space.to_original(arch))

    def report(self, arch: Architecture) -> dict[str, float]:
        """The original's report columns."""
        return self._evaluator.report(self._space.to_original(arch))

    def protocol(self) -> dict[str, Any]:
        """The original's, marked."""
        return {**self._evaluator.protocol(), "relabelled": True}


def relabel(space: CategoricalSpace, seed: int) -> RelabelledSpace:
    """The space with its choices in an order drawn from the seed; a table's restriction is kept."""
    rng = random.Random(f"relabel/{seed}")
    order = [rng.sample(range(len(v.choices)), len(v.choices)) for v in space.variables]
    return _restricted(RelabelledSpace(space, order))


def reorder(space: CategoricalSpace, seed: int) -> RelabelledSpace:
    """The space with its variables in an order drawn from the seed; a table's restriction is kept."""
    rng = random.Random(f"reorder/{seed}")
    left, places = set(range(len(space.variables))), list[int]()
    while left:
        free = [i for i in sorted(left) if not any(parent in left for parent, _ in space.variables[i].active_if)]
        places.append(rng.choice(free))
        left.remove(places[-1])
    return _restricted(RelabelledSpace(space, [range(len(v.choices)) for v in space.variables], places))


def _restricted(whole: RelabelledSpace) -> RelabelledSpace:
    if not whole.original.restricted:
        return whole
    part = whole.restrict(whole.from_original(arch) for arch in whole.original.all())
    assert isinstance(part, RelabelledSpace)
    return part
