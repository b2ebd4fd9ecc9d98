"""`digits-cells`: small convolutional networks for scikit-learn's 8x8 digits, the built-in search space.

A network is a stem and an operation at 8x8 pixels, a reduction, an operation at 4x4 pixels with twice the channels, and
a head that averages over rows, columns or quadrants before the linear layer. Every architecture has one spelling, every
variable is always active. `data_gen.digits_table` trained them all; `collm_nas/data/digits_cells.csv.gz` is the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from collm_nas.api import Architecture, Variable
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Block, Stage, Stages

if TYPE_CHECKING:
    from torch import nn

NAME = "digits-cells"
DESCRIPTION = "small convolutional networks for 8x8 images of digits, trained on 200 images"
VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("stem", ("k3", "k5", "row5", "col5")),  # kernels 3x3, 5x5, 1x5, 5x1 on the one input channel
    ("op1", ("conv3", "sep3", "pool3", "point")),  # at 8x8
    ("down", ("max", "avg", "stride")),  # 8x8 -> 4x4; stride: a depthwise 2x2 convolution
    ("op2", ("conv3", "sep3", "pool3", "point")),  # at 4x4, twice as many channels
    (
        "link",
        ("plain", "add", "cat"),
    ),  # how an operation's output meets its input
    ("act", ("relu", "tanh", "silu")),
    ("head", ("rows", "cols", "quad")),  # averages over each of 4 rows, of 4 columns, of 4 quadrants
)
TEMPLATE = "{stem} {op1} | {down} | {op2} | {link} {act} {head}"

WIDTH = 8
"""Channels of the stem and of op1; op2 has twice as many."""
SIDE = 8
CLASSES = 10
_STEM_KERNELS = {"k3": (3, 3), "k5": (5, 5), "row5": (1, 5), "col5": (5, 1)}


class Convolution(NamedTuple):
    """A convolution without bias on `side` x `side` outputs."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    groups: int
    side: int

    @property
    def weights(self) -> int:
        """Number of its weights, each used once an output pixel."""
        return self.inputs // self.groups * self.outputs * self.kernel[0] * self.kernel[1]


def _operation(op: str, inputs: int, outputs: int, side: int) -> list[Convolution]:
    if op == "conv3":
        return [Convolution(inputs, outputs, (3, 3), 1, side)]
    point = Convolution(inputs, outputs, (1, 1), 1, side)
    return [Convolution(inputs, inputs, (3, 3), inputs, side), point] if op == "sep3" else [point]


def _channels(link: str) -> tuple[int, int]:
    """Channels after the first and the second operation, with what the link adds."""
    first = WIDTH * 2 if link == "cat" else WIDTH
    return first, 2 * WIDTH + (first if link == "cat" else 0)


def convolutions(choices: Sequence[int]) -> Iterator[Convolution]:
    """The convolutions of the network with these choice positions, in their order."""
    stem, op1, down, op2, link, _, _ = names(choices)
    first, _ = _channels(link)
    yield Convolution(1, WIDTH, _STEM_KERNELS[stem], 1, SIDE)
    yield from _operation(op1, WIDTH, WIDTH, SIDE)
    if down == "stride":
        yield Convolution(first, first, (2, 2), first, SIDE // 2)
    yield from _operation(op2, first, 2 * WIDTH, SIDE // 2)


def names(choices: Sequence[int]) -> tuple[str, ...]:
    """The choices' names for their positions."""
    return tuple(legal[c] for (_, legal), c in zip(VARIABLES, choices, strict=True))


def params(choices: Sequence[int]) -> int:
    """Trainable parameters: convolutions, three batch norms (two a channel), the linear layer with its bias."""
    features = 4 * _channels(names(choices)[4])[1]
    batch_norms = 2 * (WIDTH + WIDTH + 2 * WIDTH)
    return sum(c.weights for c in convolutions(choices)) + batch_norms + (features + 1) * CLASSES


def flops(choices: Sequence[int]) -> int:
    """Multiply-adds of convolutions and the linear layer for one image."""
    features = 4 * _channels(names(choices)[4])[1]
    return sum(c.weights * c.side**2 for c in convolutions(choices)) + features * CLASSES


def build(choices: Sequence[int], seed: int = 0) -> nn.Module:
    """The network with weights drawn from `seed`: images (batch, 1, 8, 8) to logits (batch, 10)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    stem, op1, down, op2, link, act, head = names(choices)
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}[act]

    def convolution(inputs: int, outputs: int, kernel: tuple[int, int], groups: int = 1) -> nn.Module:
        padding = (kernel[0] // 2, kernel[1] // 2)
        return nn.Conv2d(inputs, outputs, kernel, padding=padding, groups=groups, bias=False)

    def block(op: str, inputs: int, outputs: int) -> nn.Sequential:
        if op == "conv3":
            layers = [convolution(inputs, outputs, (3, 3))]
        else:
            depthwise = convolution(inputs, inputs, (3, 3), inputs)
            before: dict[str, list[nn.Module]] = {"sep3": [depthwise], "pool3": [nn.MaxPool2d(3, 1, 1)], "point": []}
            layers = [*before[op], convolution(inputs, outputs, (1, 1))]
        return nn.Sequential(*layers, nn.BatchNorm2d(outputs, momentum=0.2), activation())

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, last = _channels(link)
            self.stem = nn.Sequential(
                convolution(1, WIDTH, _STEM_KERNELS[stem]), nn.BatchNorm2d(WIDTH, momentum=0.2), activation()
            )
            self.op1 = block(op1, WIDTH, WIDTH)
            reductions = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
            depthwise = nn.Conv2d(first, first, 2, stride=2, groups=first, bias=False)
            self.down = reductions[down](2) if down in reductions else depthwise
            self.op2 = block(op2, first, 2 * WIDTH)
            self.linear = nn.Linear(4 * last, CLASSES)

        def join(self, x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
            if link == "plain":
                return y_BCHW
            if link == "cat":
                return torch.cat([x_BCHW, y_BCHW], 1)
            # Where the operation doubles the channels its input is added to both halves.
            return y_BCHW + torch.cat([x_BCHW] * (y_BCHW.shape[1] // x_BCHW.shape[1]), 1)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            x_BCHW = self.stem(x_BCHW)
            x_BCHW = self.down(self.join(x_BCHW, self.op1(x_BCHW)))
            x_BCHW = self.join(x_BCHW, self.op2(x_BCHW))
            if head == "quad":
                pooled = F.avg_pool2d(x_BCHW, 2)
            else:
                pooled = x_BCHW.mean(3 if head == "rows" else 2)
            logits_BK: torch.Tensor = self.linear(pooled.flatten(1))
            return logits_BK

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network()


class DigitsCells(CategoricalSpace):
    """The built-in space, with exact costs."""

    def __init__(self) -> None:
        variables = [Variable(name, choices) for name, choices in VARIABLES]
        super().__init__(NAME, variables, template=TEMPLATE, description=DESCRIPTION)

    def cost(self, arch: Architecture) -> dict[str, float]:
        """`flops` (multiply-adds of one image) and `params` (trainable)."""
        return {"flops": flops(arch.choices), "params": params(arch.choices)}

    def drawing(self, arch: Architecture) -> Stages:
        """Two operations, each with its link, between the stem, the reduction and the head."""
        stem, op1, down, op2, link, act, head = names(arch.choices)
        first, last = _channels(link)
        way = {"plain": "", "add": "+ input", "cat": "beside input"}[link]
        operations = VARIABLES[1][1]

        def block(op: str) -> Block:
            return Block(op, way, 1.0, 1 + operations.index(op))

        return Stages(
            (
                Stage("8 x 8 pixels", f"{first} channels", (Block(f"stem {stem}"), block(op1))),
                Stage("4 x 4 pixels", f"{last} channels", (Block(down, "reduction"), block(op2))),
                Stage("head", f"{CLASSES} classes", (Block(head, "averages"), Block("linear", f"{4 * last} inputs"))),
            ),
            "Colours tell the two searched operations apart by kind"
            + {
                "plain": ".",
                "add": "; each adds its input to its output.",
                "cat": "; each puts its input beside its output.",
            }[link],
            f"Activation {act} after every convolution",
        )


def create() -> DigitsCells:
    """The space."""
    return DigitsCells()
