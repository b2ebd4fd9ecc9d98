"""NAS-Bench-201 (Dong & Yang, ICLR 2020; the topology space of NATS-Bench): cells of six edges, five operations each.

Strings, order, isomorphism classes, parameters and multiply-adds equal the official ones; no result of it is in here.
"""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Cell, Edge

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from node, to node), in the order of the string; node 3 is the cell's output."""

DATASETS = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet16-120": (16, 120)}
"""Resolution and number of classes."""

CHANNELS, CELLS = (16, 32, 64), 5


def create(dataset: str = "cifar10") -> NASBench201Space:
    """The space with the costs of one data set: `cifar10`, `cifar100` or `imagenet16-120`."""
    if str(dataset).lower() not in DATASETS:
        close = difflib.get_close_matches(str(dataset).lower(), DATASETS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"nasbench201: dataset {dataset!r} must be one of {', '.join(DATASETS)}{hint}")
    return NASBench201Space(str(dataset).lower())


class NASBench201Space(CategoricalSpace):
    """15,625 cells, identified by their official string (`isomorph` tells which strings are the same network)."""

    edges = EDGES

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        resolution, classes = DATASETS[dataset]
        super().__init__(
            "nasbench201",
            [Variable(f"e{source}{target}", OPERATIONS) for source, target in EDGES],
            template="|{e01}~0|+|{e02}~0|{e12}~1|+|{e03}~0|{e13}~1|{e23}~2|",
            description=(
                "A convolutional cell for image classification, repeated 15 times: nodes 0 (input) to 3 (output), "
                "variable eAB is the operation on the edge from node A to node B, a node sums its edges."
            ),
            costs={"flops": _flops(resolution, classes), "params": _params(classes)},
        )

    def spec(self) -> dict[str, Any]:
        """The definition, with the option that `create` needs."""
        return {**super().spec(), "options": {"dataset": self.dataset}}

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """As `CategoricalSpace.parse`; also the official nested list of `(operation, input node)` by node."""
        if isinstance(encoded, Sequence) and not isinstance(encoded, str) and len(encoded) == 3:
            return self.make([self.position(i, op) for i, op in enumerate(_flat(encoded))])
        return super().parse(encoded, encoding)

    def all(self) -> Iterator[Architecture]:
        """Every cell in the official order (a table's order where one covers a part)."""
        if self.restricted:
            yield from super().all()
        else:
            for choices in _official_order():
                yield Architecture(self.name, choices)

    def index(self, arch: Architecture) -> int:
        """The official number of a cell, 0 to 15,624."""
        return _official_index()[arch.choices]

    def isomorph(self, arch: Architecture) -> str:
        """The official unique string, equal for the members of each of the 6,466 classes.

        A convention of the benchmark (`to_unique_str`, zero considered), not a true canonical form: a sum of zeros is
        not recognised as zero, and nested sums are not flattened.
        """
        nodes = ["0"]
        for target in (1, 2, 3):
            terms = [
                _term(OPERATIONS[c], nodes[a]) for c, (a, b) in zip(arch.choices, EDGES, strict=True) if b == target
            ]
            nodes.append("+".join(sorted(terms)))
        return nodes[3]

    def drawing(self, arch: Architecture) -> Cell:
        """The cell as a graph."""
        operations = [(*edge, OPERATIONS[c]) for edge, c in zip(EDGES, arch.choices, strict=True)]
        edges = tuple(
            Edge(source, target, operation, operation == "none", OPERATIONS.index(operation))
            for source, target, operation in operations
        )
        return Cell(
            ("input", "1", "2", "output"),
            edges,
            f"The cell, {CELLS} of which stand in each of {len(CHANNELS)} stages of "
            f"{', '.join(map(str, CHANNELS))} channels. A node sums its edges; a dotted edge carries nothing.",
        )

    def build(
        self, arch: Architecture, num_classes: int | None = None, state_dict: Mapping[str, Any] | None = None
    ) -> nn.Module:
        """The network (N = 5, C = 16) in eval mode, images to logits, official keys; the dtype of the weights is kept.

        Without `num_classes` the data set's; without `state_dict` freshly initialised. UserError where the weights are
        another network's.
        """
        from collm_nas.spaces import nasbench201_network

        operations = [OPERATIONS[c] for c in arch.choices]
        return nasbench201_network.build(operations, num_classes or DATASETS[self.dataset][1], state_dict)


def _term(operation: str, source: str) -> str:
    if operation == "none" or source == "#":
        return "#"
    return source if operation == "skip_connect" else f"({source})@{operation}"


def _flat(nodes: Sequence[Any]) -> list[str]:
    """Operations in string order from `[[(op, 0)], [(op, 0), (op, 1)], [(op, 0), (op, 1), (op, 2)]]`."""
    try:
        edges = [(str(op), (int(source), target)) for target, node in enumerate(nodes, 1) for op, source in node]
    except (TypeError, ValueError):
        edges = []
    if tuple(edge for _, edge in edges) != EDGES:
        raise UserError(
            f"nasbench201: cannot read {str(nodes)[:80]!r}; as lists, give three nodes of (operation, input node)"
        )
    return [op for op, _ in edges]


@cache
def _official_order() -> tuple[tuple[int, ...], ...]:
    """The benchmark's shuffle of the product of operations, last edge fastest."""
    order = list(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
    random.Random(88).shuffle(order)
    return tuple(order)


@cache
def _official_index() -> dict[tuple[int, ...], int]:
    return {choices: i for i, choices in enumerate(_official_order())}


# --- costs: exact counts of the official network ---------------------------------------------------------------------


def _per_edge(conv_1x1: int, conv_3x3: int) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(range(len(EDGES)), (0, 0, conv_1x1, conv_3x3, 0))


def _params(classes: int) -> dict[str, Any]:
    """Weights of convolutions and BatchNorms; the classifier with its bias."""
    stem = 27 * CHANNELS[0] + 2 * CHANNELS[0]
    blocks = sum(9 * i * o + 2 * o + 9 * o * o + 2 * o + i * o for i, o in itertools.pairwise(CHANNELS))
    head = 2 * CHANNELS[-1] + CHANNELS[-1] * classes + classes
    conv_1x1, conv_3x3 = (CELLS * sum(k * c * c + 2 * c for c in CHANNELS) for k in (1, 9))
    return {"base": stem + blocks + head, "table": _per_edge(conv_1x1, conv_3x3)}


def _flops(resolution: int, classes: int) -> dict[str, Any]:
    """Multiply-adds of convolutions and of the classifier, its bias counted; pooling, BatchNorm and sums are not."""
    area = {c: resolution**2 // 4**i for i, c in enumerate(CHANNELS)}
    stem = 27 * CHANNELS[0] * area[CHANNELS[0]]
    blocks = sum((9 * i * o + 9 * o * o + i * o) * area[o] for i, o in itertools.pairwise(CHANNELS))
    conv_1x1, conv_3x3 = (CELLS * sum(k * c * c * area[c] for c in CHANNELS) for k in (1, 9))
    return {"base": stem + blocks + CHANNELS[-1] * classes + classes, "table": _per_edge(conv_1x1, conv_3x3)}
