"""What a network looks like, as plain data: a space says it (`CategoricalSpace.drawing`), the report draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A layer or block: what is written on it, and a number for its height, within [0, 1], and one for its shade.

    `note` is a second, smaller line; `height` says how large it is among its like, `shade` which kind it is (0 to 5).
    """

    label: str
    note: str = ""
    height: float = 0.5
    shade: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks one after the other on maps of one size."""

    name: str
    note: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Stages:
    """A network as a chain of stages. `key` explains heights and shades; `around` is what all blocks share."""

    stages: tuple[Stage, ...]
    key: str
    around: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """An operation from one node of a cell to a later one; one that carries nothing is `empty`."""

    source: int
    target: int
    operation: str
    empty: bool = False
    shade: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as a graph: the first node is its input, the last one its output."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    caption: str


Drawing = Stages | Cell


def share(value: float, legal: tuple[float, ...]) -> float:
    """A value's height among the legal ones: 0.4 for the smallest, 1 for the largest."""
    low, high = min(legal), max(legal)
    return 1.0 if high == low else 0.4 + 0.6 * (value - low) / (high - low)
