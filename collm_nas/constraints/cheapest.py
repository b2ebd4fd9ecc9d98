"""The least costs that a prefix of choices can still end at, exactly: what decides whether a choice is affordable.

A cost is a sum of terms over a few variables (`CategoricalSpace.terms`). Once some variables are fixed, the others fall
into groups that share no term and no condition, and each group's least cost depends on few of the fixed ones. Inside a
group the variable that meets most others (a resolution, an embedding width, a depth) is fixed to each of its choices in
turn; what remains falls apart again. Every group is solved once for each state of what it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from collm_nas.api import Encoding, UserError
from collm_nas.constraints.fronts import Vector, add, front, last_within, plus, subtract
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.terms import Term, scale

ENUMERABLE = 200_000
"""Up to so many architectures of a space without terms are looked at one by one."""

_Key = tuple[tuple[int, ...], tuple[int, ...]]  # a group, the states of what it depends on
_KEPT = 1 << 17  # solved groups remembered
_MOST = 300_000  # groups solved for one prefix; beyond this the terms don't fall apart, and solving would not end


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a group of variables: the Pareto front of its least costs, and the most of each cost."""

    least: tuple[Vector, ...]
    most: Vector


@dataclass(frozen=True, slots=True)
class Completions:
    """Of a prefix: `base` plus each vector of `front` is the Pareto front of least costs; `most`: the most of each.

    `spreads`: by how much the dearest completion of a group exceeds its cheapest, for groups with one cheapest.
    """

    base: Vector
    front: tuple[Vector, ...]
    most: Vector
    spreads: tuple[Vector, ...]

    def any_within(self, limits: Vector) -> bool:
        """Whether a completion meets all limits."""
        return last_within(self.front, subtract(limits, self.base)) is not None

    def surely_within(self, limits: Vector) -> int:
        """A number of completions that meet all limits at least, where one does: in groups that fit at their dearest
        besides the cheapest of the others, anything goes, and a group with a spread has two completions or more."""
        slack, sure = subtract(limits, self.base), 1
        slack = subtract(slack, last_within(self.front, slack) or slack)
        for spread in sorted(self.spreads):
            left = subtract(slack, spread)
            if min(left) >= 0:
                slack, sure = left, 2 * sure
        return sure

    def all_within(self, limits: Vector) -> bool:
        """Whether every completion meets all limits."""
        return min(subtract(limits, self.most)) >= 0


@dataclass(frozen=True, slots=True)
class _Group:
    """Open variables that hang together. `outside`: the fixed variables that they depend on, ascending.

    `pivot` is fixed first; `terms`, and variables whose `conditions`, are then known; `rest`: the groups that remain.
    """

    outside: tuple[int, ...]
    pivot: int
    terms: tuple[int, ...]
    conditions: tuple[int, ...]
    rest: tuple[tuple[int, ...], ...]


class Cheapest:
    """Least and most costs of the completions of a prefix, in the variable order of an encoding.

    Costs are whole numbers: those of the space times `scales` (1 where all are whole already).
    """

    def __init__(self, space: CategoricalSpace, encoding: Encoding, costs: Sequence[str]) -> None:
        """ValueError where the space states no terms for one of the one or two costs."""
        stated = [space.terms(cost) for cost in costs]
        if space.restricted or not 1 <= len(costs) <= 2 or any(terms is None for terms in stated):
            raise ValueError(f"{space.name} states no terms for {', '.join(costs)}")
        listed = [terms for terms in stated if terms is not None]
        self.scales = tuple(scale(terms) for terms in listed)
        self.whole = tuple(all(isinstance(v, int) for term in terms for v in term.values.values()) for terms in listed)
        """Whether each cost is a whole number by itself."""
        self.name = space.name
        self.variables = space.speller(encoding).variables
        position = {variable.name: i for i, variable in enumerate(self.variables)}
        self._terms = _merged(listed, self.scales, [position[v.name] for v in space.variables])
        self._near = self._neighbours()
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._solved: dict[_Key, Costs | None] = {}
        n = len(self.variables)
        self._open = [
            [(group, self._group(group).outside) for group in self._split(range(start, n))] for start in range(n + 1)
        ]
        self._closing = [[t for t, (at, _) in enumerate(self._terms) if at and at[-1] == i] for i in range(n)]
        self._zero: Vector = (0,) * len(costs)
        self.constant: Vector = next((values[()] for at, values in self._terms if not at), self._zero)
        """The costs of the empty prefix."""
        self._sums: dict[tuple[_Key, ...], tuple[Vector, ...]] = {}
        self._work = 0

    # --- a prefix -----------------------------------------------------------------------------------------------------

    def step(self, state: Vector, spent: Vector, choice: int) -> tuple[Vector, Vector]:
        """State (choices, -1 where inactive) and costs so far after one more; those of no choice: `()`, `constant`."""
        position = len(state)
        state = (*state, choice if self._active(position, state) else -1)
        for term in self._closing[position]:
            spent = add(spent, self._value(term, state))
        return state, spent

    def completions(self, state: Vector, spent: Vector) -> Completions:
        """The costs of all completions of a prefix."""
        self._work = 0
        least, most, several, spreads = spent, spent, list[_Key](), list[Vector]()
        for group, outside in self._open[len(state)]:
            key = group, tuple([state[p] for p in outside])
            costs = self._solved.get(key) or self._solve(*key)
            assert costs is not None, "a canonical prefix has a completion"
            most = add(most, costs.most)
            if len(costs.least) == 1:
                least = add(least, costs.least[0])
                if costs.least[0] != costs.most:
                    spreads.append(subtract(costs.most, costs.least[0]))
            else:
                several.append(key)
        front = self._sum(tuple(several)) if several else (self._zero,)
        return Completions(least, front, most, tuple(spreads))

    def _sum(self, keys: tuple[_Key, ...]) -> tuple[Vector, ...]:
        """The front of several groups together; kept, since what stands at the end of a prefix recurs."""
        if keys not in self._sums:
            costs = self._solve(*keys[0])
            assert costs is not None
            self._sums[keys] = tuple(plus(costs.least, self._sum(keys[1:]))) if len(keys) > 1 else costs.least
        return self._sums[keys]

    # --- groups -------------------------------------------------------------------------------------------------------

    def _neighbours(self) -> list[set[int]]:
        """For each variable those that share a term or a condition with it."""
        near: list[set[int]] = [set() for _ in self.variables]
        together = [at for at, _ in self._terms]
        together += [(i, p) for i, variable in enumerate(self.variables) for p, _ in variable.active_if]
        for at in together:
            for i in at:
                near[i] |= {*at} - {i}
        return near

    def _split(self, variables: Iterable[int]) -> tuple[tuple[int, ...], ...]:
        """These variables in groups that do not meet."""
        left, groups = set(variables), []
        while left:
            group, edge = set[int](), {min(left)}
            while edge:
                group |= edge
                edge = {near for i in edge for near in self._near[i]} & left - group
            left -= group
            groups.append(tuple(sorted(group)))
        return tuple(groups)

    def _group(self, group: tuple[int, ...]) -> _Group:
        if group not in self._groups:
            members = set(group)
            pivot = max(group, key=lambda i: len(self._near[i] & members))
            others = members - {pivot}
            terms = [t for t, (at, _) in enumerate(self._terms) if pivot in at and not others & {*at}]
            linked = [(i, {i, *(p for p, _ in v.active_if)}) for i, v in enumerate(self.variables) if v.active_if]
            conditions = [i for i, at in linked if pivot in at and not others & at]
            outside = {near for i in group for near in self._near[i]} - members
            self._groups[group] = _Group(
                tuple(sorted(outside)), pivot, tuple(terms), tuple(conditions), self._split(others)
            )
        return self._groups[group]

    def _solve(self, group: tuple[int, ...], outside: tuple[int, ...]) -> Costs | None:
        """The costs of a group's completions, given the states of what it depends on; None where there is none."""
        key = group, outside
        if key not in self._solved:
            self._work += 1
            if self._work > _MOST:
                raise UserError(f"space {self.name!r}: its costs and conditions are too entangled for caps by mask")
            plan = self._group(group)
            known = dict(zip(plan.outside, outside, strict=True))
            states = range(-1 if self.variables[plan.pivot].active_if else 0, len(self.variables[plan.pivot].choices))
            parts = [part for state in states if (part := self._part(plan, {**known, plan.pivot: state}))]
            costs = _any_of(parts) if parts else None
            if len(self._solved) >= _KEPT:
                self._solved.clear()
                self._sums.clear()
            self._solved[key] = costs
        return self._solved[key]

    def _part(self, plan: _Group, known: dict[int, int]) -> Costs | None:
        """The costs of a group's completions with its pivot fixed too."""
        if any((known[i] >= 0) != self._active(i, known) for i in plan.conditions):
            return None
        spent = self._zero
        for term in plan.terms:
            spent = add(spent, self._value(term, known))
        least, most = [spent], spent
        for group in plan.rest:
            costs = self._solve(group, tuple([known[p] for p in self._group(group).outside]))
            if costs is None:
                return None
            least, most = plus(least, costs.least), add(most, costs.most)
        return Costs(tuple(least), most)

    def _active(self, position: int, states: Mapping[int, int] | Sequence[int]) -> bool:
        return all(states[p] in allowed for p, allowed in self.variables[position].active_if)

    def _value(self, term: int, states: Mapping[int, int] | Sequence[int]) -> Vector:
        """What a term adds in these states."""
        at, values = self._terms[term]
        return values.get(tuple([states[p] for p in at]), self._zero)


def _any_of(parts: Sequence[Costs]) -> Costs:
    least = front(vector for part in parts for vector in part.least)
    return Costs(tuple(least), tuple([max(column) for column in zip(*(part.most for part in parts), strict=True)]))


def _merged(
    stated: Sequence[Sequence[Term]], scales: Sequence[int], order: Sequence[int]
) -> list[tuple[tuple[int, ...], dict[tuple[int, ...], Vector]]]:
    """The terms of all costs by the positions they are over, once as vectors; `order`: the new position of each."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
    for cost, terms in enumerate(stated):
        for term in terms:
            moved = sorted(range(len(term.positions)), key=lambda i: order[term.positions[i]])
            values = found.setdefault(tuple(order[term.positions[i]] for i in moved), {})
            for choices, value in term.values.items():
                vector = values.setdefault(tuple(choices[i] for i in moved), [0] * len(stated))
                vector[cost] += int(Fraction(value) * scales[cost])
    return [(at, {choices: tuple(vector) for choices, vector in values.items()}) for at, values in found.items()]


def cheapest(space: CategoricalSpace, cost: str) -> float | None:
    """The least value that any architecture has of a cost that the space knows, exactly.

    None where the space neither states terms for this cost nor is small enough (`ENUMERABLE`) to look at them all.
    """
    if space.restricted or space.terms(cost) is None:
        if not space.restricted and space.size > ENUMERABLE:
            return None
        values = [space.cost(arch) for arch in space.all()]
        return min(value[cost] for value in values) if cost in values[0] else None
    tree = Cheapest(space, "compact", [cost])
    exact = Fraction(tree.completions((), tree.constant).base[0], tree.scales[0])
    return int(exact) if exact.denominator == 1 else float(exact)
