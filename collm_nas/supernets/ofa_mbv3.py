"""The MobileNetV3 supernets of Once-for-All (OFA), and the networks cut out of them.

Keys, structure and arithmetic equal those of mit-han-lab/once-for-all @ f03b267 (`OFAMobileNetV3` with kernels 3, 5, 7,
expansions 3, 4, 6, depths 2, 3, 4), whose logits the tests hold. A slice is always the first n of each dimension, and a
stage keeps its first blocks; only the smaller depthwise kernels are made from the largest (see `smaller_kernel`).
The released files are in order: their channels were sorted in training.

Shapes: `x_NCHW` images or maps, `logits_NK`; M middle channels of a block, S those between its squeeze and excitation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collm_nas.api import Architecture
from collm_nas.spaces._ofa_mbv3_costs import CLASSES, FIXED_KERNEL, LARGEST, Block, OFAConfig, blocks, channels
from collm_nas.spaces.ofa_mbv3 import OFASpace
from collm_nas.supernets.checkpoint import check

__all__ = ["OFAConfig", "OFANetwork", "OFASupernet", "expected_keys", "rename", "smaller_kernel"]

LAYERS = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}
"""Our name of a block's layer -> the official one."""


# --- the official state dict ------------------------------------------------------------------------------------------


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` in the spelling of today's official class: the released files say `blocks.N.mobile_inverted_conv.` where
    it says `blocks.N.conv.`"""
    return {re.sub(r"^(blocks\.\d+)\.mobile_inverted_conv\.", r"\1.conv.", key): state[key] for key in state}


def expected_keys(width: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Official key -> shape of the whole supernet, in the official order; UserError where there is no such width."""
    widths = channels(width)
    keys = _layer_keys("first_conv", (widths.first, 3, FIXED_KERNEL, FIXED_KERNEL), shared=False)
    for block in blocks(LARGEST, widths):
        keys |= _block_keys(block)
    keys |= _layer_keys("final_expand_layer", (widths.expanded, widths.stages[-1], 1, 1), shared=False)
    return keys | {
        "feature_mix_layer.conv.weight": (widths.mixed, widths.expanded, 1, 1),
        "classifier.linear.weight": (CLASSES, widths.mixed),
        "classifier.linear.bias": (CLASSES,),
    }


def _block_keys(block: Block) -> dict[str, tuple[int, ...]]:
    prefix, shared = f"blocks.{block.number}.conv", _shared(block)
    keys = _layer_keys(f"{prefix}.inverted_bottleneck", (block.mid, block.c_in, 1, 1), shared) if block.expands else {}
    if shared:
        matrices = {"5to3_matrix": (9, 9), "7to5_matrix": (25, 25)}
        keys |= {f"{prefix}.depth_conv.conv.{name}": shape for name, shape in matrices.items()}
    keys |= _layer_keys(f"{prefix}.depth_conv", (block.mid, 1, block.kernel, block.kernel), shared)
    if block.squeeze:
        keys |= {
            f"{prefix}.depth_conv.se.fc.reduce.weight": (block.squeeze, block.mid, 1, 1),
            f"{prefix}.depth_conv.se.fc.reduce.bias": (block.squeeze,),
            f"{prefix}.depth_conv.se.fc.expand.weight": (block.mid, block.squeeze, 1, 1),
            f"{prefix}.depth_conv.se.fc.expand.bias": (block.mid,),
        }
    return keys | _layer_keys(f"{prefix}.point_linear", (block.c_out, block.mid, 1, 1), shared)


def _shared(block: Block) -> bool:
    return block.number > 0  # block 0 is fixed


def _layer_keys(prefix: str, weight: tuple[int, ...], shared: bool) -> dict[str, tuple[int, ...]]:
    """A convolution and its BatchNorm; where layers share weights, each is wrapped and its name stands twice."""
    conv, norm = (f"{prefix}.conv.conv", f"{prefix}.bn.bn") if shared else (f"{prefix}.conv", f"{prefix}.bn")
    per_channel = ("weight", "bias", "running_mean", "running_var")
    norms: dict[str, tuple[int, ...]] = {f"{norm}.{name}": weight[:1] for name in per_channel}
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
    """One architecture as a network of its own: images (N, 3, R, R) to logits (N, 1000), R the config's resolution.

    Any other R works, too, but is another architecture. UserError where there is no supernet of this width.
    """

    def __init__(self, config: OFAConfig, width: float = 1.0) -> None:
        super().__init__()
        widths = channels(width)
        self.first_conv = ConvBN(3, widths.first, FIXED_KERNEL, stride=2, act=nn.Hardswish())
        self.blocks = nn.Sequential(*map(InvertedResidual, blocks(config, widths)))
        self.final_expand_layer = ConvBN(widths.stages[-1], widths.expanded, act=nn.Hardswish())
        self.feature_mix_layer = nn.Conv2d(widths.expanded, widths.mixed, 1, bias=False)
        self.classifier = nn.Linear(widths.mixed, CLASSES)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, 1000)."""
        x_NCHW = self.final_expand_layer(self.blocks(self.first_conv(x_NCHW)))
        x_NCHW = F.hardswish(self.feature_mix_layer(x_NCHW.mean((2, 3), keepdim=True)))
        logits_NK: Tensor = self.classifier(x_NCHW.flatten(1))
        return logits_NK


# --- the supernet -----------------------------------------------------------------------------------------------------


def create(space: OFASpace, state: Mapping[str, Tensor]) -> OFASupernet:
    """The supernet of the space with these weights; UserError where they are not its."""
    return OFASupernet(state, space)


class OFASupernet:
    """The shared weights of width 1.0 or 1.2; no architecture is ever set in it.

    Holds the tensors of `state` themselves, in their dtype. UserError where they are not this supernet's.
    """

    def __init__(self, state: Mapping[str, Tensor], space: OFASpace) -> None:
        self.space = space
        self.width = width = space.width
        self.state = check(rename(state), expected_keys(width), f"the OFA supernet of width {width}")

    def extract(self, arch: Architecture) -> OFANetwork:
        """`subnet` of an architecture of the space."""
        return self.subnet(self.space.config(arch))

    def subnet(self, config: OFAConfig) -> OFANetwork:
        """`config` as a network of its own, in eval mode, with copies of its slices.

        Its BatchNorm statistics are the first of the supernet's: `recalibrate` them before trusting the logits.
        """
        with torch.device("meta"):  # neither memory for weights that are replaced at once nor draws of random numbers
            network = OFANetwork(config, self.width)
        numbers = [block.number for block in blocks(config, channels(self.width))]
        weights = {key: self._cut(key, own.shape, numbers) for key, own in network.state_dict().items()}
        network.load_state_dict(weights, assign=True)
        return network.eval()

    def _cut(self, key: str, shape: torch.Size, numbers: list[int]) -> Tensor:
        """A copy of the weights behind our key, in the stand-alone network's shape."""
        source = _official(key, numbers)
        weight = self.state[source]
        if source.endswith("depth_conv.conv.conv.weight"):
            layer = source.removesuffix("conv.weight")
            weight = smaller_kernel(
                weight[: shape[0]], shape[-1], self.state[f"{layer}7to5_matrix"], self.state[f"{layer}5to3_matrix"]
            )
        sliced = weight[tuple(slice(n) for n in shape)]
        return sliced.detach().clone(memory_format=torch.contiguous_format)


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


def smaller_kernel(weight_M177: Tensor, size: int, to5: Tensor, to3: Tensor) -> Tensor:
    """Depthwise kernels (M, 1, size, size) out of those of 7x7, with a layer's matrices (25, 25) and (9, 9).

    Each step cuts the centre, row by row, and multiplies it by the transposed matrix; 3x3 comes from the 5x5 so made.
    """
    weight = weight_M177
    for smaller, matrix in ((5, to5), (3, to3)):
        if size <= smaller:
            centre = weight[:, :, 1:-1, 1:-1]
            weight = (centre.flatten(2) @ matrix.T).view(-1, 1, smaller, smaller)
    return weight
