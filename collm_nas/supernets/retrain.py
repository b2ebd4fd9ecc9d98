"""Training one network alone: what single-path supernets need for their winners, and what scores are held against.

The same images, shifts and schedule as for a supernet (`batches`, `schedule`); every step trains the whole network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collm_nas.api import UserError
from collm_nas.supernets import devices, schedule
from collm_nas.supernets.batches import Batches

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained alone. UserError where a value is illegal."""

    epochs: int = 30
    batch: int = 128
    rate: float = 0.1  # peak
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} must be at least {least}, but is {getattr(self, name)}")
        if not 0 < self.rate < 100 or not 0 <= self.weight_decay < 100:
            raise UserError(f"--rate {self.rate} must be above 0, and --weight-decay {self.weight_decay} at least 0")


Progress = Callable[[Mapping[str, Any]], None]
"""Called after each epoch with its number, the number of them, the mean loss and the seconds so far."""


def train(
    network: nn.Module,
    batches: Batches,
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    identity: Mapping[str, Any] | None = None,
) -> float:
    """Train the network on the images' device and leave it in eval mode; returns its seconds, of all sessions.

    With `checkpoint` it goes on from that file, which is written every minute and at the end; UserError where that was
    begun with another recipe or `identity` (JSON values). Equal seeds and images give equal weights on one machine,
    whether the training was interrupted or not.
    """
    device = batches.pixels_NCHW.device
    network.to(device, memory_format=devices.layout(device))  # type: ignore[call-overload]  # missing in torch's stubs
    optimizer = schedule.optimizer(dict(network.named_parameters()), recipe.rate, recipe.weight_decay)
    whole = {**asdict(recipe), **(identity or {})}
    done, begun, seconds = _restore(network, optimizer, whole, checkpoint)
    loss_sum: Tensor | float = begun
    steps, began, saved = batches.steps * recipe.epochs, time.monotonic() - seconds, time.monotonic()
    network.train()
    for epoch in range(done // batches.steps, recipe.epochs):
        for _, x_NCHW, labels_N in batches.epoch(epoch, done - epoch * batches.steps):
            schedule.set_rate(optimizer, done / steps)
            with schedule.seeded(recipe.seed, done, x_NCHW.device):
                loss_sum += _step(network, optimizer, x_NCHW, labels_N)
            done, seconds = done + 1, time.monotonic() - began
            if done % batches.steps == 0:
                _tell(progress, epoch, recipe, float(loss_sum) / batches.steps, seconds)
                loss_sum = 0.0
            if checkpoint is not None and (done == steps or time.monotonic() - saved > SAVE_EVERY):
                _save(network, optimizer, whole, (done, float(loss_sum), seconds), checkpoint)
                saved = time.monotonic()
    network.eval()
    return seconds


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, x_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    """One update; its loss stays on the device, which the next step need not wait for."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(
        x_NCHW.device.type, torch.bfloat16, enabled=devices.computes_half(x_NCHW.device, x_NCHW.shape[-1])
    ):
        logits_NK = network(x_NCHW)
    loss = F.cross_entropy(logits_NK.float(), labels_N, label_smoothing=schedule.SMOOTHING)
    loss.backward()  # type: ignore[no-untyped-call]
    schedule.clip(dict(network.named_parameters()))
    optimizer.step()
    return loss.detach().double()


def _tell(progress: Progress | None, epoch: int, recipe: Recipe, loss: float, seconds: float) -> None:
    if progress is not None:
        progress({"epoch": epoch + 1, "of": recipe.epochs, "loss": loss, "seconds": seconds})


Place = tuple[int, float, float]
"""Where a training stands: steps done, sum of the losses of the epoch so far, seconds."""


def _save(
    network: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any], place: Place, path: Path
) -> None:
    state: dict[str, Any] = {
        "identity": identity, "place": place, "network": network.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def _restore(
    network: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any], path: Path | None
) -> Place:
    if path is None or not path.is_file():
        return 0, 0.0, 0.0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    for key, value in identity.items():
        if saved["identity"].get(key) != value:
            was = saved["identity"].get(key)
            raise UserError(
                f"the training in {path.parent} was begun with {key.replace('_', ' ')} {was}, not {value}; give the "
                "same options, or remove it"
            )
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    done, loss_sum, seconds = saved["place"]
    return done, loss_sum, seconds
