"""What every supernet offers: the whole of the face that evaluators and exporters know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from collm_nas.api import Architecture

if TYPE_CHECKING:
    from torch import nn


class Supernet(Protocol):
    """Shared weights for every architecture of a space."""

    space: Any

    def extract(self, arch: Architecture) -> nn.Module:
        """The architecture as a network of its own: inherited weights copied, eval mode, images (N, C, H, W) to logits
        (N, K). BatchNorm statistics are as they were in the supernet: `recalibrate` is a step of its own."""
