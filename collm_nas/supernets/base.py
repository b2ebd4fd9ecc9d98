"""What every supernet offers: the whole of the face that training, evaluation and export know.

Three methods are enough to bring a model of one's own: `network` builds an architecture, `weights` says where its
tensors lie in the shared ones, `inputs` what its images must be. One copy of the weights serves everything: `extract`
copies an architecture's part out of it, and training calls the same network on the shared tensors themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from collm_nas.api import Architecture

if TYPE_CHECKING:
    from collm_nas.images.inputs import Inputs

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Last parts of the keys that a BatchNorm keeps besides its parameters; they are measured, never trained."""


class Supernet(Protocol):
    """Shared weights for every architecture of a space."""

    space: Any
    state: dict[str, Tensor]
    """Every shared tensor by its key: what a file of this supernet holds."""

    def network(self, arch: Architecture) -> nn.Module:
        """The architecture's structure, images (N, C, H, W) to logits (N, K); its parameters and buffers are replaced,
        so that they may lie on the device `meta`."""

    def weights(self, arch: Architecture) -> Mapping[str, Tensor]:
        """For each key of that network's state dict its part of the shared tensors (slices of them, or made from them
        by differentiable steps; constants where nothing is shared)."""

    def inputs(self, arch: Architecture) -> Inputs:
        """What the network's images must be."""


def extract(supernet: Supernet, arch: Architecture) -> nn.Module:
    """The architecture as a network of its own: inherited weights copied, dtype and device kept, eval mode.

    BatchNorm statistics are as they were in the supernet: `recalibrate` is a step of its own.
    """
    return filled(supernet.network(arch), supernet.weights(arch))


def filled(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with copies of these tensors as its state, in eval mode."""
    copies = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    network.load_state_dict(copies, assign=True)
    return network.eval()


def trained(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a supernet that are parameters."""
    return {key: value for key, value in state.items() if key.rpartition(".")[2] not in STATISTICS}
