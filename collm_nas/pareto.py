"""Fronts and the volume that they dominate. Every point is a tuple of losses: lower is better in each.

Plain arithmetic in a fixed order, so that the same journal gives the same figure to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at least as good as `b` in everything; so do equal points each other."""
    return all(x <= y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[int]:
    """Positions of the points that no other one dominates, in the order given; of equal points the first."""
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i], i)):  # what dominates a point comes before it
        if not any(dominates(points[j], points[i]) for j in kept):
            kept.append(i)
    return sorted(kept)


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume that these points dominate up to the reference, exactly, in any number of dimensions.

    Slices along the last objective, each as thick as the step to the next point (Zitzler, 1999). A point that is not
    better than the reference in everything dominates none of it. Meant for fronts of some hundred points and two or
    three objectives; each further one multiplies the work by the size of the front.
    """
    inside = [p for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in inside)
    ordered = sorted((inside[i] for i in front(inside)), key=lambda p: p[-1])
    total = 0.0
    for i, point in enumerate(ordered, start=1):
        thick = (ordered[i][-1] if i < len(ordered) else reference[-1]) - point[-1]
        if thick > 0:
            total += thick * hypervolume([p[:-1] for p in ordered[:i]], reference[:-1])
    return total
