"""A cost as a sum of terms over a few variables each: what finding the cheapest completion needs to know of a space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import fsum, lcm
from typing import Any

Number = int | float


@dataclass(frozen=True, slots=True)
class Term:
    """One number for each combination of choices of the variables at `positions` (ascending).

    It counts where all of these are active, and is 0 elsewhere. No positions: the constant part, at `()`.
    """

    positions: tuple[int, ...]
    values: Mapping[tuple[int, ...], Number]


def additive(table: Mapping[str, Any]) -> list[Term]:
    """The terms of `{"base": number, "table": {position: costs per choice}}`: one a variable."""
    terms = [Term((), {(): table.get("base", 0)})]
    for position, costs in table.get("table", {}).items():
        terms.append(Term((position,), {(choice,): value for choice, value in enumerate(costs)}))
    return terms


def total(values: Iterable[Number]) -> Number:
    """The sum, correctly rounded where there are floats: the same in whatever order they come."""
    listed = list(values)
    return sum(listed) if all(isinstance(value, int) for value in listed) else fsum(listed)


def scale(terms: Iterable[Term]) -> int:
    """The least number by which all values of the terms become whole numbers."""
    return lcm(*(Fraction(value).denominator for term in terms for value in term.values.values()))
