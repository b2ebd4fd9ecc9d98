"""Where networks run: a device by its name, checked before anything is loaded onto it."""

from __future__ import annotations

import torch

from collm_nas.api import UserError


def pick(name: str | None = None) -> torch.device:
    """The named device, or a GPU if there is one, else the CPU; UserError where this machine has no such device."""
    legal = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name is None:
        return torch.device("cuda" if len(legal) > 1 else "cpu")
    if name not in legal and not (name == "cuda" and len(legal) > 1):
        raise UserError(f"--device {name!r} is not on this machine; it has {', '.join(legal)}")
    return torch.device(name)
