"""The network of NAS-Bench-201 as a torch module whose parameter names are the official ones.

Shapes: `x_BCHW` images or feature maps, `logits_BK`. Structure after the benchmark's `TinyNetwork` (C = 16, N = 5):
stem, five cells, residual block, five cells, residual block, five cells, BatchNorm, mean, classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collm_nas.api import UserError
from collm_nas.spaces.nasbench201 import CELLS, CHANNELS, EDGES


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, BatchNorm: the operation `nor_conv_kxk`."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.op = nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape kept but for channels and stride."""
        out: Tensor = self.op(x_BCHW)
        return out


class Zero(nn.Module):
    """The operation `none`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Zeros of the same shape."""
        return torch.zeros_like(x_BCHW)


def _operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return ReLUConvBN(channels, channels, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])


class Cell(nn.Module):
    """Four nodes; each sums its edges' operations on the nodes before it."""

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_operation(name, channels) for name in operations)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The sum at the last node."""
        nodes = [x_BCHW]
        for target in (1, 2, 3):
            terms = [layer(nodes[a]) for layer, (a, b) in zip(self.layers, EDGES, strict=True) if b == target]
            nodes.append(torch.stack(terms).sum(0))
        return nodes[3]


class ResidualBlock(nn.Module):
    """Halves the map and doubles the channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, stride=2)
        self.conv_b = ReLUConvBN(c_out, c_out, 3)
        self.downsample = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape (B, 2C, H/2, W/2)."""
        out: Tensor = self.downsample(x_BCHW) + self.conv_b(self.conv_a(x_BCHW))
        return out


class Network(nn.Module):
    """The whole classifier: images (B, 3, R, R) to logits (B, K)."""

    def __init__(self, operations: Sequence[str], num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0]))
        layers: list[nn.Module] = []
        for i, channels in enumerate(CHANNELS):
            layers += [ResidualBlock(CHANNELS[i - 1], channels)] if i else []
            layers += [Cell(operations, channels) for _ in range(CELLS)]
        self.cells = nn.ModuleList(layers)
        self.lastact = nn.Sequential(nn.BatchNorm2d(CHANNELS[-1]), nn.ReLU())
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits alone, without the features that the official code returns too."""
        x_BCHW = self.stem(x_BCHW)
        for cell in self.cells:
            x_BCHW = cell(x_BCHW)
        x_BC = F.adaptive_avg_pool2d(self.lastact(x_BCHW), 1).flatten(1)
        logits_BK: Tensor = self.classifier(x_BC)
        return logits_BK


def build(operations: Sequence[str], num_classes: int, state_dict: Mapping[str, Any] | None) -> Network:
    """The network in eval mode; with `state_dict` its weights, in their dtype. UserError if they do not fit."""
    network = Network(operations, num_classes)
    if state_dict is not None:
        _check(network.state_dict(), state_dict)
        network.to(state_dict["classifier.weight"].dtype)
        network.load_state_dict(dict(state_dict))
    return network.eval()


def _check(own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    missing, foreign = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or foreign:
        what = f"lacks {missing[0]!r}" if missing else f"has {foreign[0]!r}"
        raise UserError(
            f"nasbench201: the state dict is not this architecture's: it {what} ({len(missing)} keys missing, "
            f"{len(foreign)} foreign); give the weights of the same cell"
        )
    for key, value in own.items():
        if tuple(given[key].shape) != tuple(value.shape):
            raise UserError(
                f"nasbench201: the state dict's {key!r} has shape {tuple(given[key].shape)}, but the network's is "
                f"{tuple(value.shape)}; check num_classes"
            )
