"""Cells as graphs, of the spaces that say which nodes each variable joins (`SearchSpace.edges`)."""

from __future__ import annotations

from collections.abc import Sequence

from collm_nas.api import Architecture, SearchSpace

Edge = tuple[int, int, str]
"""From node, to node, operation."""

NONE = "none"


def cell(space: SearchSpace, arch: Architecture) -> list[Edge]:
    """The edges of a cell, without those that are `none`."""
    assert space.edges is not None
    named = [v.choices[c] for v, c in zip(space.variables, arch.choices, strict=True)]
    return [(a, b, name) for (a, b), name in zip(space.edges, named, strict=True) if name != NONE]


def output(space: SearchSpace) -> int:
    """The last node."""
    assert space.edges is not None
    return max(b for _, b in space.edges)


def paths(edges: Sequence[Edge], output: int, node: int = 0) -> list[tuple[str, ...]]:
    """The operations along every way from `node` to the output."""
    if node == output:
        return [()]
    return [(name, *rest) for a, b, name in edges if a == node for rest in paths(edges, output, b)]
