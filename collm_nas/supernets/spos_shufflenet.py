"""The supernet of Single Path One-Shot (SPOS): ShuffleNetV2, four candidate modules for each block.

Nothing is shared between candidates: a path takes one module per block, with its weights and BatchNorm statistics.
Keys, structure and arithmetic equal those of megvii-model/SinglePathOneShot @ 36eed6c (`src/Search`, and for the
affine BatchNorms of a stand-alone network `src/Evaluation`). Shapes: `x_NCHW` images or maps, `logits_NK`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from collm_nas.api import Architecture, UserError
from collm_nas.images.inputs import Inputs
from collm_nas.spaces._spos_shufflenet_costs import CHOICES, Block, Conv, Plan, SPOSConfig
from collm_nas.spaces.spos_shufflenet import SPOSSpace
from collm_nas.supernets import base, checkpoint

__all__ = ["SPOSConfig", "SPOSNetwork", "SPOSSupernet", "create", "expected_keys", "rename"]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


# --- the official state dict ------------------------------------------------------------------------------------------


def rename(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict in the one spelling there is, out of its container and without DataParallel's prefix."""
    return checkpoint.read(state)


def expected_keys(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Official key -> shape of the whole supernet, in the official order; its BatchNorms hold statistics alone."""
    keys = _keys_of("first_conv", [plan.first_conv])
    for i, block in enumerate(plan.blocks):
        for choice in range(CHOICES):
            keys |= _keys_of(f"features.{i}.{choice}.branch_main", block.main(choice))
            keys |= _keys_of(f"features.{i}.{choice}.branch_proj", block.proj(choice))
    keys |= _keys_of("conv_last", [plan.conv_last])
    return keys | {"classifier.0.weight": (plan.classes, plan.last)}


def _keys_of(branch: str, convs: Sequence[Conv]) -> dict[str, tuple[int, ...]]:
    keys: dict[str, tuple[int, ...]] = {}
    for conv, (weight, norm) in zip(convs, _places(branch, convs), strict=True):
        shapes = ((conv.c_out,), (conv.c_out,), ())
        keys |= {weight: conv.shape}
        keys |= {f"{norm}.{name}": shape for name, shape in zip(STATISTICS, shapes, strict=True)}
    return keys


def _places(branch: str, convs: Sequence[Conv]) -> Iterator[tuple[str, str]]:
    """(key of the weight, prefix of the BatchNorm) of each convolution: a branch counts its modules, ReLUs too."""
    position = 0
    for conv in convs:
        yield f"{branch}.{position}.weight", f"{branch}.{position + 1}"
        position += 3 if conv.relu else 2


# --- the stand-alone network ------------------------------------------------------------------------------------------


class ConvBN(nn.Module):
    """Convolution, affine BatchNorm and, where the plan says so, ReLU."""

    def __init__(self, plan: Conv) -> None:
        super().__init__()
        groups = plan.c_in if plan.depthwise else 1
        self.conv = nn.Conv2d(
            plan.c_in, plan.c_out, plan.kernel, plan.stride, padding=plan.kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(plan.c_out)
        self.act = nn.ReLU() if plan.relu else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Channels and stride as planned."""
        out: Tensor = self.act(self.bn(self.conv(x_NCHW)))
        return out


def _sequence(convs: Sequence[Conv]) -> nn.Sequential:
    return nn.Sequential(*map(ConvBN, convs))


class Downsample(nn.Module):
    """A stride-2 block: both branches see the whole input."""

    def __init__(self, block: Block, choice: int) -> None:
        super().__init__()
        self.main = _sequence(block.main(choice))
        self.proj = _sequence(block.proj(choice))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Half the side; the projection's channels first."""
        return torch.cat((self.proj(x_NCHW), self.main(x_NCHW)), dim=1)


class Shuffle(nn.Module):
    """A stride-1 block: even channels pass, odd ones go through the main branch. That split is the channel shuffle."""

    def __init__(self, block: Block, choice: int) -> None:
        super().__init__()
        self.main = _sequence(block.main(choice))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Shape kept; the even channels first."""
        return torch.cat((x_NCHW[:, 0::2], self.main(x_NCHW[:, 1::2])), dim=1)


class SPOSNetwork(nn.Module):
    """One path as a network of its own: images (N, 3, side, side) to logits (N, K), as planned.

    UserError where the images have another size: the pooling window is fixed, so that a larger map would lose its edge.
    """

    def __init__(self, config: SPOSConfig, plan: Plan) -> None:
        super().__init__()
        if len(config.blocks) != len(plan.blocks):
            raise UserError(f"a SPOS path has {len(plan.blocks)} blocks, but got {len(config.blocks)}: {config.blocks}")
        self.side = plan.side
        self.first_conv = _sequence([plan.first_conv])
        self.blocks = nn.Sequential(
            *(
                (Downsample if block.stride == 2 else Shuffle)(block, choice)
                for block, choice in zip(plan.blocks, config.blocks, strict=True)
            )
        )
        self.conv_last = _sequence([plan.conv_last])
        self.pool = nn.AvgPool2d(plan.pooled)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(plan.last, plan.classes, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, K)."""
        side = self.side
        if x_NCHW.shape[1:] != (3, side, side):
            raise UserError(f"a SPOS network takes images (N, 3, {side}, {side}), but got {tuple(x_NCHW.shape)}")
        x_NCHW = self.conv_last(self.blocks(self.first_conv(x_NCHW)))
        logits_NK: Tensor = self.classifier(self.dropout(self.pool(x_NCHW).flatten(1)))
        return logits_NK


# --- the supernet -----------------------------------------------------------------------------------------------------


def create(space: SPOSSpace, state: Mapping[str, Any]) -> SPOSSupernet:
    """The supernet of the space with these weights; UserError where they are not its."""
    return SPOSSupernet(state, space)


def shapes(space: SPOSSpace) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every shared tensor."""
    return expected_keys(space.plan)


class SPOSSupernet:
    """The shared weights, once; UserError where the state dict is not this supernet's."""

    def __init__(self, state: Mapping[str, Any], space: SPOSSpace) -> None:
        self.space, self.plan = space, space.plan
        self.state = checkpoint.check(rename(state), expected_keys(space.plan), f"the supernet of {space.name}")

    def extract(self, arch: Architecture) -> nn.Module:
        """The architecture as a network of its own: see `supernets.base.extract`.

        Its BatchNorms are affine, with weight 1 and bias 0, and carry the candidates' statistics, which all paths
        through a candidate share: `recalibrate` them before trusting the logits.
        """
        return base.extract(self, arch)

    def network(self, arch: Architecture) -> SPOSNetwork:
        """The path's structure, without memory for its weights."""
        with torch.device("meta"):  # nor draws of random numbers
            return SPOSNetwork(self.space.config(arch), self.plan)

    def weights(self, arch: Architecture) -> dict[str, Tensor]:
        """The path's part of the shared tensors, by the network's keys; ones and zeros for the affine BatchNorms."""
        config, plan = self.space.config(arch), self.plan
        weights = self._branch("first_conv", "first_conv", [plan.first_conv])
        for i, (block, choice) in enumerate(zip(plan.blocks, config.blocks, strict=True)):
            official = f"features.{i}.{choice}"
            weights |= self._branch(f"{official}.branch_main", f"blocks.{i}.main", block.main(choice))
            weights |= self._branch(f"{official}.branch_proj", f"blocks.{i}.proj", block.proj(choice))
        weights |= self._branch("conv_last", "conv_last", [plan.conv_last])
        return weights | {"classifier.weight": self.state["classifier.0.weight"]}

    def inputs(self, arch: Architecture) -> Inputs:
        """Images as the official code cuts them: 256 pixels by OpenCV, the centre of 224, BGR, 0 to 255; small spaces
        take the whole image."""
        if self.space.name != "spos-shufflenet":
            return Inputs.small(self.plan.side, 3)
        plain = ((0.0,) * 3, (1 / 255,) * 3)
        return Inputs(self.plan.side, *plain, resize=self.plan.side * 8 // 7, filter="opencv", order="BGR")

    def _branch(self, official: str, own: str, convs: Sequence[Conv]) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i, (weight, norm) in enumerate(_places(official, convs)):
            statistics = {f"{own}.{i}.bn.{name}": self.state[f"{norm}.{name}"] for name in STATISTICS}
            mean_C = statistics[f"{own}.{i}.bn.running_mean"]
            weights |= {f"{own}.{i}.conv.weight": self.state[weight], **statistics}
            weights |= {
                f"{own}.{i}.bn.weight": torch.ones_like(mean_C),
                f"{own}.{i}.bn.bias": torch.zeros_like(mean_C),
            }
        return weights
