"""What is known of a model's law on the allowed answers: a tree of texts with bounds on the allowed mass below each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np


@dataclass(slots=True, eq=False)
class Node:
    """A text that the model has read, and its K continuations that grammar and mask allow."""

    ids: list[int]
    logps_K: np.ndarray
    """Log-probabilities of the continuations under the model's own law."""
    bounds_K: np.ndarray
    """For each, a bound from above on the chance that what follows it will be allowed; 1 until more is known."""
    open_K: np.ndarray
    """1 where something below was never read, else 0."""
    children: dict[int, Node] = field(default_factory=dict)
    """By position among `ids`."""

    @property
    def weights_K(self) -> np.ndarray:
        """Bounds on the chance of each continuation with an allowed end."""
        return np.exp(self.logps_K) * self.bounds_K

    @property
    def bound(self) -> float:
        """A bound from above on the chance that this text comes to an allowed end."""
        return min(1.0, float(self.weights_K.sum()))


class Edge(NamedTuple):
    """A continuation that a draft took: of which node, at which position."""

    node: Node
    position: int


def grown(ids: Sequence[int], logps_K: np.ndarray) -> Node:
    """A node just read: nothing is known of what follows."""
    return Node(list(ids), logps_K, np.ones_like(logps_K), np.ones_like(logps_K))


def chance(path: Sequence[Edge]) -> float:
    """With what chance to keep a draft drawn by `weights_K`, so that kept drafts follow the conditional law.

    The bounds must be those it was drawn by: every node on its path either has the bound that its parent holds, or was
    read by this very batch. The draft's own chance is the product of p bound(continuation) / bound(node); times the
    ratios below, all bounds but the root's cancel, and what is left is p / bound(root) for every answer alike.
    """
    result = 1.0
    for before, edge in pairwise(path):
        held = float(before.node.bounds_K[before.position])
        result *= min(1.0, edge.node.bound / held)
    return result


def learn(paths: Iterable[Sequence[Edge]]) -> None:
    """Carry the bounds of what was read up to the root."""
    for path in paths:
        for before, edge in reversed(list(pairwise(path))):
            before.node.bounds_K[before.position] = edge.node.bound
            before.node.open_K[before.position] = edge.node.open_K.max()
