"""Training batches from decoded images that stay on the device: shuffled, shifted and flipped there, by a seed.

Every batch depends on the seed, the epoch and its place in it alone, so that a training that stopped goes on as if it
had not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from collm_nas.api import UserError
from collm_nas.images import memory
from collm_nas.images.inputs import Inputs
from collm_nas.images.split import Split
from collm_nas.supernets import devices

SHIFT = 8
"""Images are shifted by up to this fraction of their side, in each direction."""


@dataclass(frozen=True)
class Batches:
    """Bytes (N, C, H, W) and labels (N,) on the device, and how they become batches of `size`."""

    pixels_NCHW: Tensor
    labels_N: Tensor
    inputs: Inputs
    size: int
    seed: int
    flip: bool
    """Whether images are mirrored in half of the cases: not where left and right mean something, as in digits."""

    @property
    def steps(self) -> int:
        """Batches of an epoch; a last one that is not full is left out, for BatchNorm's sake."""
        return max(1, len(self.labels_N) // self.size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(step, images, labels) from the step `first` on."""
        order_N = torch.randperm(len(self.labels_N), generator=self._generator(epoch, -1)).to(self.labels_N.device)
        for step in range(first, self.steps):
            chosen_B = order_N[step * self.size : (step + 1) * self.size]
            yield step, self._augmented(chosen_B, self._generator(epoch, step)), self.labels_N[chosen_B]

    def _generator(self, epoch: int, step: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 1_000_003 + step + 1)

    def _augmented(self, chosen_B: Tensor, generator: torch.Generator) -> Tensor:
        device, side, n = self.pixels_NCHW.device, self.pixels_NCHW.shape[-1], len(chosen_B)
        reach = max(1, side // SHIFT)
        padded_BCHW = F.pad(self.pixels_NCHW[chosen_B], (reach,) * 4)
        across_BS, down_BS = (
            torch.randint(2 * reach + 1, (n, 1), generator=generator) + torch.arange(side) for _ in range(2)
        )
        if self.flip:
            mirrored_B1 = torch.rand(n, 1, generator=generator) < 0.5
            across_BS = torch.where(mirrored_B1, across_BS.flip(1), across_BS)
        at_B = torch.arange(n, device=device)[:, None, None]
        # Indices that stand apart put the channels last.
        out_BHWC = padded_BCHW[at_B, :, down_BS.to(device)[:, :, None], across_BS.to(device)[:, None, :]]
        images_BCHW = self.inputs.normalized(out_BHWC.permute(0, 3, 1, 2), torch.float32)
        return images_BCHW.contiguous(memory_format=devices.layout(device))


def prepare(split: Split, inputs: Inputs, size: int, seed: int, device: torch.device) -> Batches:
    """The split's images as batches; UserError where they do not fit into memory."""
    needed, free = len(split) * inputs.channels * inputs.side**2, memory.free_bytes()
    if needed > free:
        raise UserError(
            f"the {len(split):,} training images take {needed / 1e9:.1f} GB decoded, but {free / 1e9:.1f} GB may be "
            f"used; train on fewer by --limit {int(free * len(split) / needed)}"
        )
    return Batches(
        split.pixels(inputs).to(device), split.labels.to(device), inputs, size, seed, flip=inputs.channels > 1
    )
