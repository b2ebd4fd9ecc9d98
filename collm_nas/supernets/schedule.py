"""What training a supernet and training a network alone have in common: optimiser, learning rate, regularisation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

SMOOTHING = 0.1
"""Of the labels."""
WARM_UP = 0.05
"""Share of the steps in which the rate rises to its peak; then it falls along a half cosine."""
MOMENTUM = 0.9
LARGEST_GRADIENT = 5.0


def optimizer(trained: Mapping[str, Tensor], peak: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov's momentum; no decay for biases and norms."""
    decayed = [value for value in trained.values() if value.ndim > 1]
    kept = [value for value in trained.values() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    made = torch.optim.SGD([g for g in groups if g["params"]], lr=peak, momentum=MOMENTUM, nesterov=True)
    for group in made.param_groups:
        group["peak"] = peak
    return made


def set_rate(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """The learning rate after this share of the steps."""
    rise = min(1.0, (progress + 1e-3) / WARM_UP)
    fall = 0.5 * (1 + math.cos(math.pi * max(0.0, progress - WARM_UP) / (1 - WARM_UP)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rise * fall


def clip(trained: Mapping[str, Tensor]) -> None:
    """Scale gradients that are too large all together."""
    torch.nn.utils.clip_grad_norm_([v for v in trained.values() if v.grad is not None], LARGEST_GRADIENT)


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Random numbers drawn inside (by dropout) depend on the seed and the step alone; the caller's go on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + step)
        yield
