"""Pareto fronts of cost vectors: what several caps at once need in place of one least cost.

A front is a list of vectors of which none is at most another in all costs, ascending in the first cost (and so, with
two costs, descending in the second). With one cost it holds a single vector, the least.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

Vector = tuple[int, ...]
"""One whole number a cost (see `spaces.terms.scale`); there are one or two costs."""


def front(vectors: Iterable[Vector]) -> list[Vector]:
    """The vectors that no other beats."""
    ordered = sorted(set(vectors))
    if not ordered or len(ordered[0]) == 1:
        return ordered[:1]
    kept = ordered[:1]
    for vector in ordered[1:]:
        if vector[1] < kept[-1][1]:
            kept.append(vector)
    return kept


def plus(left: Sequence[Vector], right: Sequence[Vector]) -> list[Vector]:
    """The front of all sums of one from each."""
    if len(left) == len(right) == 1:
        return [add(left[0], right[0])]
    return front(add(a, b) for a in left for b in right)


def add(a: Vector, b: Vector) -> Vector:
    """The sum, cost by cost."""
    return (a[0] + b[0],) if len(a) == 1 else (a[0] + b[0], a[1] + b[1])


def subtract(a: Vector, b: Vector) -> Vector:
    """The difference, cost by cost."""
    return tuple([x - y for x, y in zip(a, b, strict=True)])


def last_within(vectors: Sequence[Vector], limits: Vector) -> Vector | None:
    """The last vector of this front within all limits; None where none is."""
    at = bisect_right(vectors, limits[0], key=_first) - 1
    return vectors[at] if at >= 0 and vectors[at][-1] <= limits[-1] else None


def _first(vector: Vector) -> int:
    return vector[0]
