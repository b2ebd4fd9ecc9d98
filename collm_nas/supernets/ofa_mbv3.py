"""The MobileNetV3 supernets of Once-for-All (OFA), and the networks cut out of them.

Keys, structure and arithmetic equal those of mit-han-lab/once-for-all @ f03b267 (`OFAMobileNetV3` with kernels 3, 5, 7,
expansions 3, 4, 6, depths 2, 3, 4), whose logits the tests hold. A slice is always the first n of each dimension, and a
stage keeps its first blocks; only the smaller depthwise kernels are made from the largest (see `smaller_kernel`).
The released files are in order: their channels were sorted in training.

Shapes: `x_NCHW` images or maps, `logits_NK`; M middle channels of a block, S those between its squeeze and excitation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collm_nas.api import Architecture
from collm_nas.images.inputs import IMAGENET_MEAN, IMAGENET_STD, Inputs
from collm_nas.spaces._ofa_mbv3_costs import FIXED_KERNEL, Block, OFAConfig, Plan, blocks
from collm_nas.spaces.ofa_mbv3 import OFASpace
from collm_nas.supernets import base
from collm_nas.supernets.checkpoint import check

__all__ = ["OFAConfig", "OFANetwork", "OFASupernet", "expected_keys", "rename", "smaller_kernel"]

LAYERS = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}
"""Our name of a block's layer -> the official one."""
PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")
"""What a BatchNorm holds for each channel."""


# --- the official state dict ------------------------------------------------------------------------------------------


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` in the spelling of today's official class: the released files say `blocks.N.mobile_inverted_conv.` where
    it says `blocks.N.conv.`"""
    return {re.sub(r"^(blocks\.\d+)\.mobile_inverted_conv\.", r"\1.conv.", key): state[key] for key in state}


def expected_keys(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Official key -> shape of the whole supernet, in the official order."""
    widths = plan.channels
    keys = _layer_keys("first_conv", (widths.first, plan.inputs, FIXED_KERNEL, FIXED_KERNEL), shared=False)
    for block in blocks(plan.largest, plan):
        keys |= _block_keys(block, plan)
    keys |= _layer_keys("final_expand_layer", (widths.expanded, widths.stages[-1], 1, 1), shared=False)
    return keys | {
        "feature_mix_layer.conv.weight": (widths.mixed, widths.expanded, 1, 1),
        "classifier.linear.weight": (plan.classes, widths.mixed),
        "classifier.linear.bias": (plan.classes,),
    }


def _block_keys(block: Block, plan: Plan) -> dict[str, tuple[int, ...]]:
    prefix, shared = f"blocks.{block.number}.conv", _shared(block)
    keys = _layer_keys(f"{prefix}.inverted_bottleneck", (block.mid, block.c_in, 1, 1), shared) if block.expands else {}
    if shared:
        for small, large in itertools.pairwise(plan.kernels):
            keys[f"{prefix}.depth_conv.conv.{_matrix(large, small)}"] = (small**2, small**2)
    keys |= _layer_keys(f"{prefix}.depth_conv", (block.mid, 1, block.kernel, block.kernel), shared)
    if block.squeeze:
        keys |= {
            f"{prefix}.depth_conv.se.fc.reduce.weight": (block.squeeze, block.mid, 1, 1),
            f"{prefix}.depth_conv.se.fc.reduce.bias": (block.squeeze,),
            f"{prefix}.depth_conv.se.fc.expand.weight": (block.mid, block.squeeze, 1, 1),
            f"{prefix}.depth_conv.se.fc.expand.bias": (block.mid,),
        }
    return keys | _layer_keys(f"{prefix}.point_linear", (block.c_out, block.mid, 1, 1), shared)


def _matrix(large: int, small: int) -> str:
    return f"{large}to{small}_matrix"


def _shared(block: Block) -> bool:
    return block.number > 0  # block 0 is fixed


def _layer_keys(prefix: str, weight: tuple[int, ...], shared: bool) -> dict[str, tuple[int, ...]]:
    """A convolution and its BatchNorm; where layers share weights, each is wrapped and its name stands twice."""
    conv, norm = (f"{prefix}.conv.conv", f"{prefix}.bn.bn") if shared else (f"{prefix}.conv", f"{prefix}.bn")
    norms: dict[str, tuple[int, ...]] = {f"{norm}.{name}": weight[:1] for name in PER_CHANNEL}
    return {f"{conv}.weight": weight, **norms, f"{norm}.num_batches_tracked": ()}


# --- the stand-alone network ------------------------------------------------------------------------------------------


class ConvBN(nn.Module):
    """Convolution without bias, BatchNorm and, where given, an activation."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)  # eps 1e-5, not MobileNetV3's usual 1e-3
        self.act = act or nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Channels and stride as built."""
        out: Tensor = self.act(self.bn(self.conv(x_NCHW)))
        return out


class SqueezeExcite(nn.Module):
    """Each channel times a gate that sees the means of all channels."""

    def __init__(self, c_mid: int, c_squeeze: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_mid, c_squeeze, 1)
        self.expand = nn.Conv2d(c_squeeze, c_mid, 1)

    def forward(self, x_NMHW: Tensor) -> Tensor:
        """Shape kept."""
        x_NS11 = F.relu(self.reduce(x_NMHW.mean((2, 3), keepdim=True)))
        return x_NMHW * F.hardsigmoid(self.expand(x_NS11))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation behind its activation, projection, residual."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        mid, act = block.mid, nn.Hardswish() if block.hswish else nn.ReLU()
        self.residual = block.residual
        self.expand = ConvBN(block.c_in, mid, act=act) if block.expands else nn.Identity()
        self.depthwise = ConvBN(mid, mid, block.kernel, block.stride, groups=mid, act=act)
        self.se = SqueezeExcite(mid, block.squeeze) if block.squeeze else nn.Identity()
        self.project = ConvBN(mid, block.c_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Channels and stride as built."""
        out_NCHW: Tensor = self.project(self.se(self.depthwise(self.expand(x_NCHW))))
        return out_NCHW + x_NCHW if self.residual else out_NCHW


class OFANetwork(nn.Module):
    """One architecture as a network of its own: images (N, C, R, R) to logits (N, K), R the config's resolution.

    Any other R works, too, but is another architecture. UserError where the config is not of the plan.
    """

    def __init__(self, config: OFAConfig, plan: Plan) -> None:
        super().__init__()
        widths = plan.channels
        self.first_conv = ConvBN(plan.inputs, widths.first, FIXED_KERNEL, plan.stem_stride, act=nn.Hardswish())
        self.blocks = nn.Sequential(*map(InvertedResidual, blocks(config, plan)))
        self.final_expand_layer = ConvBN(widths.stages[-1], widths.expanded, act=nn.Hardswish())
        self.feature_mix_layer = nn.Conv2d(widths.expanded, widths.mixed, 1, bias=False)
        self.classifier = nn.Linear(widths.mixed, plan.classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, K)."""
        x_NCHW = self.final_expand_layer(self.blocks(self.first_conv(x_NCHW)))
        x_NCHW = F.hardswish(self.feature_mix_layer(x_NCHW.mean((2, 3), keepdim=True)))
        logits_NK: Tensor = self.classifier(x_NCHW.flatten(1))
        return logits_NK


def own_shapes(used: Sequence[Block], plan: Plan) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the state dict of the network of these blocks: quicker than to build one."""
    widths = plan.channels
    keys = _own_layer("first_conv", (widths.first, plan.inputs, FIXED_KERNEL, FIXED_KERNEL))
    for i, block in enumerate(used):
        if block.expands:
            keys |= _own_layer(f"blocks.{i}.expand", (block.mid, block.c_in, 1, 1))
        keys |= _own_layer(f"blocks.{i}.depthwise", (block.mid, 1, block.kernel, block.kernel))
        if block.squeeze:
            for layer, c_out, c_in in (("reduce", block.squeeze, block.mid), ("expand", block.mid, block.squeeze)):
                keys |= {f"blocks.{i}.se.{layer}.weight": (c_out, c_in, 1, 1), f"blocks.{i}.se.{layer}.bias": (c_out,)}
        keys |= _own_layer(f"blocks.{i}.project", (block.c_out, block.mid, 1, 1))
    keys |= _own_layer("final_expand_layer", (widths.expanded, widths.stages[-1], 1, 1))
    return keys | {
        "feature_mix_layer.weight": (widths.mixed, widths.expanded, 1, 1),
        "classifier.weight": (plan.classes, widths.mixed),
        "classifier.bias": (plan.classes,),
    }


def _own_layer(prefix: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    per_channel = {f"{prefix}.bn.{name}": weight[:1] for name in PER_CHANNEL}
    return {f"{prefix}.conv.weight": weight, **per_channel, f"{prefix}.bn.num_batches_tracked": ()}


def structure(config: OFAConfig, plan: Plan) -> OFANetwork:
    """The network without memory for weights that are replaced at once, nor draws of random numbers."""
    with torch.device("meta"):
        return OFANetwork(config, plan)


# --- the supernet -----------------------------------------------------------------------------------------------------


def create(space: OFASpace, state: Mapping[str, Tensor]) -> OFASupernet:
    """The supernet of the space with these weights; UserError where they are not its."""
    return OFASupernet(state, space)


def shapes(space: OFASpace) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every shared tensor."""
    return expected_keys(space.plan)


class OFASupernet:
    """The shared weights of a space's plan; no architecture is ever set in it.

    Holds the tensors of `state` themselves, in their dtype. UserError where they are not this supernet's.
    """

    def __init__(self, state: Mapping[str, Tensor], space: OFASpace) -> None:
        self.space, self.plan = space, space.plan
        self.state = check(rename(state), expected_keys(space.plan), f"the supernet of {space.name}")

    def extract(self, arch: Architecture) -> nn.Module:
        """The architecture as a network of its own: see `supernets.base.extract`.

        Its BatchNorm statistics are the first of the supernet's: `recalibrate` them before trusting the logits.
        """
        return base.extract(self, arch)

    def network(self, arch: Architecture) -> OFANetwork:
        """The architecture's structure, without memory for its weights."""
        return structure(self.space.config(arch), self.plan)

    def weights(self, arch: Architecture) -> dict[str, Tensor]:
        """Its slices of the shared tensors, by the network's keys; smaller kernels are made from the largest."""
        return self.slices(self.space.config(arch))

    def slices(self, config: OFAConfig) -> dict[str, Tensor]:
        """`weights` for any numbers within the plan."""
        used = blocks(config, self.plan)
        numbers = [block.number for block in used]
        return {key: self._cut(key, shape, numbers) for key, shape in own_shapes(used, self.plan).items()}

    def inputs(self, arch: Architecture) -> Inputs:
        """Images as the official code cuts them: resized to 8/7 of the resolution (rounded up), then the centre; small
        spaces take the whole image."""
        resolution = self.space.config(arch).resolution
        if not self.space.searches_resolution:
            return Inputs.small(resolution, self.plan.inputs)
        return Inputs(resolution, IMAGENET_MEAN, IMAGENET_STD, resize=-(-resolution * 8 // 7))

    def _cut(self, key: str, shape: tuple[int, ...], numbers: list[int]) -> Tensor:
        """The weights behind our key, in the stand-alone network's shape."""
        source = _official(key, numbers)
        weight = self.state[source]
        if source.endswith("depth_conv.conv.conv.weight"):
            layer = source.removesuffix("conv.weight")
            matrices = [
                (small, self.state[f"{layer}{_matrix(large, small)}"])
                for small, large in itertools.pairwise(self.plan.kernels)
            ]
            weight = smaller_kernel(weight[: shape[0]], shape[-1], matrices[::-1])
        return weight[tuple(slice(n) for n in shape)]


def _official(key: str, numbers: list[int]) -> str:
    """The supernet's key for the stand-alone network's; `numbers`: where its blocks stand in the supernet."""
    match key.split("."):
        case ["blocks", i, "se", *rest]:
            return ".".join(["blocks", str(numbers[int(i)]), "conv.depth_conv.se.fc", *rest])
        case ["blocks", i, layer, kind, name]:
            number = numbers[int(i)]
            wrapped = f"{kind}.{kind}" if number else kind
            return f"blocks.{number}.conv.{LAYERS[layer]}.{wrapped}.{name}"
        case ["feature_mix_layer", name]:
            return f"feature_mix_layer.conv.{name}"
        case ["classifier", name]:
            return f"classifier.linear.{name}"
    return key


def smaller_kernel(weight_M1LL: Tensor, size: int, matrices: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Depthwise kernels (M, 1, size, size) out of the largest; `matrices`: (size k, k^2 x k^2), largest size first.

    Each step cuts the centre, row by row, and multiplies it by the transposed matrix; 3x3 comes from the 5x5 so made.
    """
    weight = weight_M1LL
    for smaller, matrix in matrices:
        if size <= smaller:
            centre = weight[:, :, 1:-1, 1:-1]
            weight = (centre.flatten(2) @ matrix.T).view(-1, 1, smaller, smaller)
    return weight
