"""How many architectures within the caps begin with a prefix of choices: exactly where few do, else enough of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import floor, inf, nextafter

from collm_nas.api import Architecture, Encoding
from collm_nas.constraints.cheapest import ENUMERABLE, Cheapest, Completions
from collm_nas.constraints.fronts import Vector
from collm_nas.spaces.base import CategoricalSpace

MASKABLE = ("flops", "params")
"""Costs that are known of every architecture beforehand; `latency` is measured, one at a time."""

_CACHED = 1 << 17  # nodes remembered; a search touches some ten thousand
_Node = tuple[int, ...]

Costing = Callable[[Architecture], Mapping[str, float]]
"""The costs of an architecture that are known without evaluating it."""


class Affordable:
    """The architectures of a large space within caps on costs of which it states the terms (`Cheapest`).

    A walk that stays on nodes with a count above 0 always ends at an architecture within all the caps, and every such
    architecture is the end of one.
    """

    def __init__(self, space: CategoricalSpace, encoding: Encoding, limits: Mapping[str, float]) -> None:
        """ValueError where the space states no terms for a limited cost, UserError where they do not fall apart."""
        self._tree = Cheapest(space, encoding, list(limits))
        self._space = space.speller(encoding)
        self.limits: Vector = tuple(
            _whole(limit, scale, whole)
            for limit, scale, whole in zip(limits.values(), self._tree.scales, self._tree.whole, strict=True)
        )
        self._reached: dict[_Node, tuple[Vector, Vector, Completions]] = {}
        self._counted: dict[_Node, tuple[int, bool]] = {}
        self._reach(())  # UserError where the costs are too entangled, before anything begins

    def count(self, node: _Node, enough: int) -> int:
        """Number of affordable architectures that begin with these choices: exact if below `enough`, else at least it.

        More than `enough` is looked at only where all completions are affordable: their number is the space's count.
        """
        found, exact = self._counted.get(node, (0, False))
        if exact or found >= enough:
            return found
        found, exact = self._count(node, enough)
        if len(self._counted) >= _CACHED:
            self._counted.clear()
        self._counted[node] = found, exact
        return found

    def _count(self, node: _Node, enough: int) -> tuple[int, bool]:
        """The count, and whether it is exact."""
        completions = self.completions(node)
        if not completions.any_within(self.limits):
            return 0, True
        if completions.all_within(self.limits):
            return self._space.count(node), True
        if (sure := completions.surely_within(self.limits)) >= enough:
            return sure, False
        found, exact = 0, True
        for choice in self._space.legal_next(node):
            if found >= enough:
                return found, False
            child = (*node, choice)
            found += self.count(child, enough - found)
            exact &= self._counted[child][1]
        return found, exact

    def completions(self, node: _Node) -> Completions:
        """The costs of all completions of a node, to compare with `limits`."""
        return self._reach(node)[2]

    def _reach(self, node: _Node) -> tuple[Vector, Vector, Completions]:
        """State and costs so far at a node (see `Cheapest.step`), and its completions."""
        known = self._reached.get(node)
        if known is None:
            state, spent = (
                ((), self._tree.constant) if not node else self._tree.step(*self._reach(node[:-1])[:2], node[-1])
            )
            known = state, spent, self._tree.completions(state, spent)
            if len(self._reached) >= _CACHED:
                self._reached.clear()
            self._reached[node] = known
        return known


def _whole(limit: float, scale: int, whole: bool) -> int:
    """The most that a cost times its scale may be.

    A cost that is a float is its exact sum rounded to the nearest; what rounds to the limit is within it.
    """
    if whole:
        return floor(Fraction(limit) * scale)
    above = nextafter(limit, inf)
    most = floor((Fraction(limit) + Fraction(above)) / 2 * scale)
    return most if float(Fraction(most, scale)) <= limit else most - 1


def maskable(space: CategoricalSpace, limits: Mapping[str, float]) -> dict[str, float]:
    """Those limits that can be met by mask: on costs of which the space states terms, or that few architectures have.

    What is left (`latency`, a cost known only by a function in a large space) is for whoever evaluates to check.
    """
    few = space.restricted or space.size <= ENUMERABLE
    return {name: x for name, x in limits.items() if name in MASKABLE and (few or space.terms(name) is not None)}


def affordable_rows(space: CategoricalSpace, limits: Mapping[str, float], costs: Costing) -> CategoricalSpace:
    """A small space, or one of a table's rows, with only its affordable architectures legal."""
    return space.restrict(
        arch for arch in space.all() if all(costs(arch)[name] <= limit for name, limit in limits.items())
    )
