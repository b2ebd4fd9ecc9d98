"""The ShuffleNetV2 networks of Single Path One-Shot (SPOS) as lists of convolutions, and their exact costs; no torch.

Structure and counts after megvii-model/SinglePathOneShot @ 36eed6c (`src/Search`: blocks and multiply-adds;
`src/Evaluation`: the stand-alone network, whose parameters are counted). Channel search is not in that code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from collm_nas.api import UserError

KERNELS = (3, 5, 7)
"""Kernels of the shuffle blocks that are choices 0 to 2."""
XCEPTION = 3
"""The fourth choice: an xception block, of three 3x3 depthwise convolutions."""
CHOICES = 4


@dataclass(frozen=True, slots=True)
class SPOSConfig:
    """A path: one choice for each block, 0 to 2 a shuffle block of kernel 3, 5, 7, and 3 an xception block.

    UserError where a choice is illegal.
    """

    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        for i, choice in enumerate(self.blocks):
            if choice not in range(CHOICES):
                raise UserError(f"block {i} of the SPOS path must be one of 0, 1, 2, 3, but is {choice!r}")


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution without bias, its BatchNorm and, where `relu`, a ReLU; depthwise: one filter a channel."""

    c_in: int
    c_out: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    relu: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the weight: (out, in of a group, kernel, kernel)."""
        return self.c_out, 1 if self.depthwise else self.c_in, self.kernel, self.kernel

    @property
    def weights(self) -> int:
        """Elements of the weight."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Block:
    """The place of a block: channels in and out, its stride, the side of the map it receives."""

    c_in: int
    c_out: int
    stride: int
    side: int

    def main(self, choice: int) -> list[Conv]:
        """The branch with the searched operations. With stride 1 it gets, and gives, half of the channels."""
        c_in = self.c_in if self.stride == 2 else self.c_in // 2
        mid, c_out = self.c_out // 2, self.c_out - c_in
        if choice == XCEPTION:
            return [
                *(_depthwise(c_in, 3, self.stride), Conv(c_in, mid)),
                *(_depthwise(mid, 3), Conv(mid, mid)),
                *(_depthwise(mid, 3), Conv(mid, c_out)),
            ]
        return [Conv(c_in, mid), _depthwise(mid, KERNELS[choice], self.stride), Conv(mid, c_out)]

    def proj(self, choice: int) -> list[Conv]:
        """The other branch of a stride-2 block, which keeps the channels; a stride-1 block has none."""
        if self.stride == 1:
            return []
        kernel = 3 if choice == XCEPTION else KERNELS[choice]
        return [_depthwise(self.c_in, kernel, self.stride), Conv(self.c_in, self.c_in)]


def _depthwise(channels: int, kernel: int, stride: int = 1) -> Conv:
    return Conv(channels, channels, kernel, stride, depthwise=True, relu=False)


@dataclass(frozen=True)
class Plan:
    """What all paths of a supernet have in common.

    `stages`: (blocks, channels) of each, whose first block has stride 2; `stem`, `last`: channels of the first and of
    the last convolution.
    """

    side: int
    stages: tuple[tuple[int, int], ...]
    stem: int
    last: int
    classes: int
    stem_stride: int = 2

    @property
    def first_conv(self) -> Conv:
        """From the image's three channels."""
        return Conv(3, self.stem, kernel=3, stride=self.stem_stride)

    @property
    def conv_last(self) -> Conv:
        """On the map that is then averaged."""
        return Conv(self.stages[-1][1], self.last)

    @property
    def pooled(self) -> int:
        """Side of that map."""
        return self.side // self.stem_stride >> len(self.stages)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """In the network's order."""
        blocks, c_in, side = [], self.stem, self.side // self.stem_stride
        for repeats, c_out in self.stages:
            blocks += [Block(c_in, c_out, 2, side)] + [Block(c_out, c_out, 1, side // 2)] * (repeats - 1)
            c_in, side = c_out, side // 2
        return tuple(blocks)


PLANS = {
    "spos-shufflenet": Plan(224, ((4, 64), (4, 160), (8, 320), (4, 640)), stem=16, last=1024, classes=1000),
    "cifar-shufflenet": Plan(32, ((4, 48), (6, 96), (4, 192)), stem=16, last=256, classes=10, stem_stride=1),
}
"""By the name of the space: the published one, and one of the same build for small images."""


# --- costs: additive over the blocks ----------------------------------------------------------------------------------


def flops(config: SPOSConfig, plan: Plan) -> int:
    """Multiply-adds of one image (convolutions and classifier; BatchNorm and pooling are not counted)."""
    return _total(costs(plan)["flops"], config)


def params(config: SPOSConfig, plan: Plan) -> int:
    """Trainable parameters of the stand-alone network: its BatchNorms are affine, though the supernet's are not."""
    return _total(costs(plan)["params"], config)


def _total(table: dict[str, Any], config: SPOSConfig) -> int:
    return int(table["base"] + sum(table["table"][i][choice] for i, choice in enumerate(config.blocks)))


def costs(plan: Plan) -> dict[str, dict[str, Any]]:
    """As `CategoricalSpace` takes them: a base and, for each block, the cost of each choice."""
    ends = _multiply_adds([plan.first_conv], plan.side) + _multiply_adds([plan.conv_last], plan.pooled)
    head = plan.last * plan.classes
    adds = {
        i: tuple(
            _multiply_adds(block.main(c), block.side) + _multiply_adds(block.proj(c), block.side)
            for c in range(CHOICES)
        )
        for i, block in enumerate(plan.blocks)
    }
    parameters = {
        i: tuple(_parameters(block.main(c) + block.proj(c)) for c in range(CHOICES))
        for i, block in enumerate(plan.blocks)
    }
    return {
        "flops": {"base": ends + head, "table": adds},
        "params": {"base": _parameters([plan.first_conv, plan.conv_last]) + head, "table": parameters},
    }


def _multiply_adds(convs: Sequence[Conv], side: int) -> int:
    """On a square map of this side."""
    total = 0
    for conv in convs:
        side //= conv.stride
        total += conv.weights * side**2
    return total


def _parameters(convs: Sequence[Conv]) -> int:
    return sum(conv.weights + 2 * conv.c_out for conv in convs)
