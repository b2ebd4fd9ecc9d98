"""Where networks run: a device by its name, checked before anything is loaded onto it."""

from __future__ import annotations

import torch

from collm_nas.api import UserError

HALF_FROM = 96
"""Side of images from which a GPU computes in half precision, which halves their memory; smaller ones leave the card
waiting for the next kernel anyway, and conversions are kernels, too. Measured at 32 pixels (slower) and at 224 (level)
only."""


def pick(name: str | None = None) -> torch.device:
    """The named device, or a GPU if there is one, else the CPU; UserError where this machine has no such device."""
    legal = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name is None:
        return torch.device("cuda" if len(legal) > 1 else "cpu")
    if name not in legal and not (name == "cuda" and len(legal) > 1):
        raise UserError(f"--device {name!r} is not on this machine; it has {', '.join(legal)}")
    return torch.device(name)


def computes_half(device: torch.device, side: int) -> bool:
    """Whether half precision pays for images of this side; parameters stay in float32."""
    return device.type == "cuda" and side >= HALF_FROM


def layout(device: torch.device) -> torch.memory_format:
    """How images lie in memory where every network has other shapes.

    Channels last is the quickest on a CPU. On a GPU cuDNN then takes every depthwise convolution, and compiles a kernel
    for each new shape: 0.4 s a subnet or a training step of a supernet, measured on an H200, against 0.03 s without.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def release(device: torch.device) -> None:
    """Give back what torch keeps of memory that is free, after a network was too large for the rest."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
