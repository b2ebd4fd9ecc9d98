"""Cells as graphs: a space whose variables are all named `eAB`, an operation on the edge from node A to node B, as in
NAS-Bench-201. Node 0 is the input, the last node the output; an operation called `none` is no edge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from collm_nas.api import Architecture, SearchSpace

Edge = tuple[int, int, str]
"""From node, to node, operation."""

NONE = "none"


def edges_of(space: SearchSpace) -> list[tuple[int, int]] | None:
    """From and to node of every variable; None where the space is no cell."""
    found = [re.fullmatch(r"e(\d)(\d)", variable.name) for variable in space.variables]
    pairs = [(int(m[1]), int(m[2])) for m in found if m]
    return pairs if len(pairs) == len(found) and all(a < b for a, b in pairs) else None


def cell(space: SearchSpace, arch: Architecture, edges: Sequence[tuple[int, int]]) -> list[Edge]:
    """The edges of an architecture, without those that are `none`."""
    named = [v.choices[c] for v, c in zip(space.variables, arch.choices, strict=True)]
    return [(a, b, name) for (a, b), name in zip(edges, named, strict=True) if name != NONE]


def paths(edges: Sequence[Edge], output: int, node: int = 0) -> list[tuple[str, ...]]:
    """The operations along every way from `node` to the output."""
    if node == output:
        return [()]
    return [(name, *rest) for a, b, name in edges if a == node for rest in paths(edges, output, b)]
