"""The MobileNetV3 networks of Once-for-All (OFA) as lists of blocks, and their exact costs; no torch.

Structure and counts after mit-han-lab/once-for-all @ f03b267; `flops` equals its `count_flops_given_config`, and
`tutorial_flops` the lookup table of its search tutorial, which counts another network in another way.
"""

from __future__ import annotations

from dataclasses import dataclass

from collm_nas.api import UserError

CLASSES = 1000
SLOTS = 4
"""Blocks of a stage, of which it uses as many as it is deep."""
KERNELS, EXPANDS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
FIXED_KERNEL = 3
"""Of the first convolution and of the one block that is not searched."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the blocks of a stage share; the stride is the first block's."""

    stride: int
    hswish: bool
    squeeze: bool


STAGES = (
    Stage(stride=2, hswish=False, squeeze=False),
    Stage(stride=2, hswish=False, squeeze=True),
    Stage(stride=2, hswish=True, squeeze=False),
    Stage(stride=1, hswish=True, squeeze=True),
    Stage(stride=2, hswish=True, squeeze=True),
)


@dataclass(frozen=True, slots=True)
class Channels:
    """Channels of the first convolution and the fixed block, of the stages, and of the two layers before the
    classifier."""

    first: int
    stages: tuple[int, ...]
    expanded: int
    mixed: int


CHANNELS = {
    1.0: Channels(16, (24, 40, 80, 112, 160), 960, 1280),
    1.2: Channels(24, (32, 48, 96, 136, 192), 1152, 1536),
}
"""By the width multiplier of the two released supernets; 1.2 times the first, to the multiples of 8 that OFA takes."""

TUTORIAL_INPUTS, TUTORIAL_CLASSES = 4, 1200
TUTORIAL_CHANNELS = Channels(19, (29, 48, 96, 134, 192), 1152, 1536)
"""The tutorial's table multiplies all channels by 1.2, the image's and the classes too, and rounds to integers."""


@dataclass(frozen=True, slots=True)
class OFAConfig:
    """Resolution in pixels; depth of the 5 stages; kernel and expansion of the 20 slots, four a stage.

    Slots that no depth reaches may hold any number. UserError where a length or a value in use is illegal.
    """

    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise UserError(f"an OFA network's resolution must be at least 1 pixel, but is {self.resolution}")
        for name, length in (
            ("depths", len(STAGES)),
            ("kernels", SLOTS * len(STAGES)),
            ("expands", SLOTS * len(STAGES)),
        ):
            if len(getattr(self, name)) != length:
                raise UserError(f"an OFA network has {length} {name}, but got {len(getattr(self, name))}")
        for stage, depth in enumerate(self.depths):
            _require(f"the depth of stage {stage + 1}", depth, DEPTHS)
        for slot in self.slots:
            _require(f"the kernel of block {slot + 1}", self.kernels[slot], KERNELS)
            _require(f"the expansion of block {slot + 1}", self.expands[slot], EXPANDS)

    @property
    def slots(self) -> list[int]:
        """The slots in use, from 0: the first ones of each stage."""
        return [stage * SLOTS + j for stage, depth in enumerate(self.depths) for j in range(depth)]


def _require(what: str, value: int, legal: tuple[int, ...]) -> None:
    if value not in legal:
        raise UserError(f"{what} of an OFA network must be one of {', '.join(map(str, legal))}, but is {value!r}")


LARGEST = OFAConfig(224, (4,) * 5, (7,) * 20, (6,) * 20)
"""Its blocks hold the shared weights of all the others."""


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: 1x1 expansion (unless `mid` is `c_in`), depthwise convolution, squeeze-and-excitation
    (unless `squeeze` is 0), 1x1 projection; `number` is its place in the supernet (`blocks.N`)."""

    number: int
    c_in: int
    mid: int
    c_out: int
    kernel: int
    stride: int
    squeeze: int
    hswish: bool

    @property
    def expands(self) -> bool:
        """Whether there is an expansion."""
        return self.mid != self.c_in

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.c_in == self.c_out

    @property
    def params(self) -> int:
        """Weights, the biases of the squeeze-and-excitation, weight and bias of the BatchNorms."""
        expansion = (self.c_in + 2) * self.mid if self.expands else 0
        gate = 2 * self.mid * self.squeeze + (self.mid + self.squeeze if self.squeeze else 0)
        return expansion + (self.kernel**2 + 2) * self.mid + gate + (self.mid + 2) * self.c_out

    def multiply_adds(self, side: int, norm: int = 0) -> int:
        """Of the convolutions, on a map of this side; `norm` operations more for each element of a BatchNorm."""
        out = _strided(side, self.stride)
        expansion = (self.c_in + norm) * self.mid * side**2 if self.expands else 0
        gate = 2 * self.mid * self.squeeze
        return expansion + ((self.kernel**2 + norm) * self.mid + (self.mid + norm) * self.c_out) * out**2 + gate


def channels(width: float) -> Channels:
    """Of the supernet of this width; UserError where there is none."""
    if width not in CHANNELS:
        raise UserError(
            f"the width of an OFA supernet must be one of {', '.join(map(str, CHANNELS))}, but is {width!r}"
        )
    return CHANNELS[width]


def blocks(config: OFAConfig, widths: Channels) -> list[Block]:
    """The fixed block, then those in use, in the network's order."""
    first = widths.first
    found = [Block(0, first, first, first, FIXED_KERNEL, stride=1, squeeze=0, hswish=False)]
    for slot in config.slots:
        stage, j = divmod(slot, SLOTS)
        plan, c_in = STAGES[stage], found[-1].c_out
        mid = c_in * config.expands[slot]  # already the multiple of 8 to which OFA rounds it
        squeeze = _make_divisible(mid // 4) if plan.squeeze else 0
        stride = 1 if j else plan.stride
        found.append(
            Block(slot + 1, c_in, mid, widths.stages[stage], config.kernels[slot], stride, squeeze, plan.hswish)
        )
    return found


def _make_divisible(value: int) -> int:
    """The nearest multiple of 8 (half up, at least 8), or the next where that falls below nine tenths."""
    near = max(8, (value + 4) // 8 * 8)
    return near + 8 if 10 * near < 9 * value else near


def _strided(side: int, stride: int) -> int:
    """The side of the map that a convolution of this stride leaves."""
    return (side - 1) // stride + 1


# --- costs ------------------------------------------------------------------------------------------------------------


def flops(config: OFAConfig, width: float = 1.0) -> int:
    """Multiply-adds of one image: convolutions and classifier, without biases, BatchNorm and pooling."""
    widths = channels(width)
    side = _strided(config.resolution, 2)
    total = 3 * FIXED_KERNEL**2 * widths.first * side**2
    for block in blocks(config, widths):
        total += block.multiply_adds(side)
        side = _strided(side, block.stride)
    return total + _head(widths, side, CLASSES)


def params(config: OFAConfig, width: float = 1.0) -> int:
    """Trainable parameters of the stand-alone network, whatever its resolution."""
    widths = channels(width)
    first = (3 * FIXED_KERNEL**2 + 2) * widths.first
    head = _head(widths, 1, CLASSES) + 2 * widths.expanded + CLASSES
    return first + sum(block.params for block in blocks(config, widths)) + head


def tutorial_flops(config: OFAConfig) -> int:
    """What the lookup table (`FLOPsTable`) of OFA's search tutorial gives, whose figures Table 2 of the CoLLM-NAS paper
    prints; it is the count of neither the width-1.0 nor the width-1.2 network.

    Each layer is counted by itself with thop: four operations for each element of a BatchNorm, no biases; a layer's
    input has the side resolution // (strides before it), even where a stride before it rounds up. The table has the
    resolutions 160, 176, 192, 208, 224; the same rule serves here for any other.
    """
    norm, strides = 4, 2
    widths = TUTORIAL_CHANNELS
    total = (TUTORIAL_INPUTS * FIXED_KERNEL**2 + norm) * widths.first * _strided(config.resolution, 2) ** 2
    for block in blocks(config, widths):
        total += block.multiply_adds(config.resolution // strides, norm)
        strides *= block.stride
    return total + _head(widths, config.resolution // strides, TUTORIAL_CLASSES, norm)


def _head(widths: Channels, side: int, classes: int, norm: int = 0) -> int:
    """Multiply-adds behind the last block, whose map has this side: 1x1, mean, 1x1, classifier."""
    expansion = (widths.stages[-1] + norm) * widths.expanded * side**2
    return expansion + (widths.expanded + norm) * widths.mixed + widths.mixed * classes
