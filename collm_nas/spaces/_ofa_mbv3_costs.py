"""The MobileNetV3 networks of Once-for-All (OFA) as lists of blocks, and their exact costs; no torch.

Structure and counts after mit-han-lab/once-for-all @ f03b267; `flops` equals its `count_flops_given_config`, and
`tutorial_flops` the lookup table of its search tutorial, which counts another network in another way. A `Plan` is what
the two released supernets differ in; two plans of ours are for images too small for those.
"""

from __future__ import annotations

from dataclasses import dataclass

from collm_nas.api import UserError

FIXED_KERNEL = 3
"""Of the first convolution and of the one block that is not searched."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the blocks of a stage share; the stride is the first block's."""

    stride: int
    hswish: bool
    squeeze: bool


@dataclass(frozen=True, slots=True)
class Channels:
    """Channels of the first convolution and the fixed block, of the stages, and of the two layers before the
    classifier."""

    first: int
    stages: tuple[int, ...]
    expanded: int
    mixed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the networks of a supernet have in common, and the values that its architectures choose from, ascending.

    `inputs`: channels of an image; `stem_stride`: of the first convolution. Channels times an expansion must be
    multiples of 8, to which OFA rounds them.
    """

    channels: Channels
    stages: tuple[Stage, ...]
    kernels: tuple[int, ...] = (3, 5, 7)
    expands: tuple[int, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    inputs: int = 3
    classes: int = 1000
    stem_stride: int = 2

    @property
    def slots(self) -> int:
        """Blocks of a stage, of which it uses as many as it is deep."""
        return max(self.depths)

    @property
    def largest(self) -> OFAConfig:
        """Its blocks hold the shared weights of all the others (its resolution means nothing)."""
        stages, slots = len(self.stages), self.slots * len(self.stages)
        return OFAConfig(224, (self.slots,) * stages, (self.kernels[-1],) * slots, (self.expands[-1],) * slots)


OFFICIAL_STAGES = (
    Stage(stride=2, hswish=False, squeeze=False),
    Stage(stride=2, hswish=False, squeeze=True),
    Stage(stride=2, hswish=True, squeeze=False),
    Stage(stride=1, hswish=True, squeeze=True),
    Stage(stride=2, hswish=True, squeeze=True),
)
PLANS = {
    "ofa-mbv3": Plan(Channels(16, (24, 40, 80, 112, 160), 960, 1280), OFFICIAL_STAGES),
    # 1.2 times the first, to the multiples of 8 that OFA takes
    "ofa-mbv3-w1.2": Plan(Channels(24, (32, 48, 96, 136, 192), 1152, 1536), OFFICIAL_STAGES),
    "cifar-mbconv": Plan(
        Channels(8, (8, 16, 24, 40), 160, 128),
        (
            Stage(stride=1, hswish=False, squeeze=False),
            Stage(stride=2, hswish=False, squeeze=True),
            Stage(stride=2, hswish=True, squeeze=False),
            Stage(stride=1, hswish=True, squeeze=True),
        ),
        expands=(2, 4, 6),
        depths=(1, 2, 3),
        classes=10,
    ),
    "digits-mbconv": Plan(
        Channels(8, (8, 8, 16), 48, 48),
        (
            Stage(stride=1, hswish=False, squeeze=False),
            Stage(stride=2, hswish=True, squeeze=True),
            Stage(stride=2, hswish=True, squeeze=True),
        ),
        kernels=(3, 5),
        expands=(2, 3, 4),
        depths=(1, 2, 3),
        inputs=1,
        classes=10,
        stem_stride=1,
    ),
}
"""By the name of the space: the two released supernets, and smaller ones of the same build."""

TUTORIAL = Plan(Channels(19, (29, 48, 96, 134, 192), 1152, 1536), OFFICIAL_STAGES, inputs=4, classes=1200)
"""The tutorial's table multiplies all channels by 1.2, the image's and the classes too, and rounds to integers."""


@dataclass(frozen=True, slots=True)
class OFAConfig:
    """Resolution in pixels; depth of each stage; kernel and expansion of each slot, stage by stage.

    Slots that no depth reaches may hold any number.
    """

    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]


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


def blocks(config: OFAConfig, plan: Plan) -> list[Block]:
    """The fixed block, then those in use, in the network's order; UserError where a length or a value is illegal."""
    return [_fixed(plan)] + [block_of(plan, i, config.kernels[i], config.expands[i]) for i in _slots(config, plan)]


def _fixed(plan: Plan) -> Block:
    """The first block, which is not searched."""
    first = plan.channels.first
    return Block(0, first, first, first, FIXED_KERNEL, stride=1, squeeze=0, hswish=False)


def block_of(plan: Plan, slot: int, kernel: int, expand: int) -> Block:
    """The block in a slot (from 0) with this kernel and expansion; it depends on nothing else."""
    number, j = divmod(slot, plan.slots)
    stage, outputs = plan.stages[number], (plan.channels.first, *plan.channels.stages)
    c_in, c_out = outputs[number + (j > 0)], outputs[number + 1]
    mid = c_in * expand
    squeeze = _make_divisible(mid // 4) if stage.squeeze else 0
    return Block(slot + 1, c_in, mid, c_out, kernel, 1 if j else stage.stride, squeeze, stage.hswish)


def _slots(config: OFAConfig, plan: Plan) -> list[int]:
    """The slots in use, from 0: the first ones of each stage."""
    stages = len(plan.stages)
    if config.resolution < 1:
        raise UserError(f"an OFA network's resolution must be at least 1 pixel, but is {config.resolution}")
    for name, length in (("depths", stages), ("kernels", plan.slots * stages), ("expands", plan.slots * stages)):
        if len(getattr(config, name)) != length:
            raise UserError(f"an OFA network has {length} {name}, but got {len(getattr(config, name))}")
    for stage, depth in enumerate(config.depths):
        _require(f"the depth of stage {stage + 1}", depth, plan.depths)
    slots = [stage * plan.slots + j for stage, depth in enumerate(config.depths) for j in range(depth)]
    for slot in slots:
        _require(f"the kernel of block {slot + 1}", config.kernels[slot], plan.kernels)
        _require(f"the expansion of block {slot + 1}", config.expands[slot], plan.expands)
    return slots


def _require(what: str, value: int, legal: tuple[int, ...]) -> None:
    if value not in legal:
        raise UserError(f"{what} of an OFA network must be one of {', '.join(map(str, legal))}, but is {value!r}")


def _make_divisible(value: int) -> int:
    """The nearest multiple of 8 (half up, at least 8), or the next where that falls below nine tenths."""
    near = max(8, (value + 4) // 8 * 8)
    return near + 8 if 10 * near < 9 * value else near


def _strided(side: int, stride: int) -> int:
    """The side of the map that a convolution of this stride leaves."""
    return (side - 1) // stride + 1


# --- costs ------------------------------------------------------------------------------------------------------------


def flops(config: OFAConfig, plan: Plan) -> int:
    """Multiply-adds of one image: convolutions and classifier, without biases, BatchNorm and pooling."""
    side = _strided(config.resolution, plan.stem_stride)
    total = _stem(plan, side)
    for block in blocks(config, plan):
        total += block.multiply_adds(side)
        side = _strided(side, block.stride)
    return total + _head(plan, side)


def _stem(plan: Plan, side: int) -> int:
    """Multiply-adds of the first convolution, whose output has this side."""
    return plan.inputs * FIXED_KERNEL**2 * plan.channels.first * side**2


def fixed_flops(plan: Plan, resolution: int) -> int:
    """Multiply-adds of all that is not searched, for an image of this side."""
    side = _strided(resolution, plan.stem_stride)
    last = side
    for stage in plan.stages:
        last = _strided(last, stage.stride)
    return _stem(plan, side) + _fixed(plan).multiply_adds(side) + _head(plan, last)


def side_before(plan: Plan, resolution: int, slot: int) -> int:
    """The side of the map that the block in a slot (from 0) receives."""
    number, j = divmod(slot, plan.slots)
    side = _strided(resolution, plan.stem_stride)
    for stage in plan.stages[: number + (j > 0)]:
        side = _strided(side, stage.stride)
    return side


def params(config: OFAConfig, plan: Plan) -> int:
    """Trainable parameters of the stand-alone network, whatever its resolution."""
    return fixed_params(plan) + sum(block.params for block in blocks(config, plan)[1:])


def fixed_params(plan: Plan) -> int:
    """Trainable parameters of all that is not searched."""
    first = (plan.inputs * FIXED_KERNEL**2 + 2) * plan.channels.first
    return first + _fixed(plan).params + _head(plan, 1) + 2 * plan.channels.expanded + plan.classes


def tutorial_flops(config: OFAConfig) -> int:
    """What the lookup table (`FLOPsTable`) of OFA's search tutorial gives, whose figures Table 2 of the CoLLM-NAS paper
    prints; it is the count of neither the width-1.0 nor the width-1.2 network.

    Each layer is counted by itself with thop: four operations for each element of a BatchNorm, no biases; a layer's
    input has the side resolution // (strides before it), even where a stride before it rounds up. The table has the
    resolutions 160, 176, 192, 208, 224; the same rule serves here for any other.
    """
    norm, strides = 4, TUTORIAL.stem_stride
    total = (TUTORIAL.inputs * FIXED_KERNEL**2 + norm) * TUTORIAL.channels.first * _strided(config.resolution, 2) ** 2
    for block in blocks(config, TUTORIAL):
        total += block.multiply_adds(config.resolution // strides, norm)
        strides *= block.stride
    return total + _head(TUTORIAL, config.resolution // strides, norm)


def _head(plan: Plan, side: int, norm: int = 0) -> int:
    """Multiply-adds behind the last block, whose map has this side: 1x1, mean, 1x1, classifier."""
    widths = plan.channels
    expansion = (widths.stages[-1] + norm) * widths.expanded * side**2
    return expansion + (widths.expanded + norm) * widths.mixed + widths.mixed * plan.classes
