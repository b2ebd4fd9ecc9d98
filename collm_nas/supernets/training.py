"""Training a supernet: one step updates the shared tensors through the networks of a few architectures.

- `single`: one architecture a step, drawn uniformly (Guo et al., ECCV 2020).
- `sandwich`: the largest, the smallest and two random ones; all but the largest learn its soft answers on the same
  images, "in-place distillation" (Yu et al., ECCV 2020).

`shrink` lets one kind of variable after another leave the largest value, as in OFA's progressive shrinking (Cai et al.,
ICLR 2020). Weights are shared by calling an architecture's network on its slices of the shared tensors; nothing is
copied, and a supernet needs no training code of its own.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from collm_nas.api import Architecture, UserError
from collm_nas.supernets import base, devices, schedule
from collm_nas.supernets.batches import Batches

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a supernet is trained. UserError in one sentence where a value is illegal."""

    rule: Literal["sandwich", "single"] = "sandwich"
    epochs: int = 15
    batch: int = 128
    rate: float = 0.1  # peak
    weight_decay: float = 1e-4
    random_paths: int = 2  # of a sandwich
    shrink: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in ("sandwich", "single"):
            raise UserError(f"--rule {self.rule!r} is unknown; legal: sandwich, single")
        for name, least in (("epochs", 1), ("batch", 2), ("random_paths", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least}, but is {getattr(self, name)}")
        for name in ("rate", "weight_decay"):
            if not 0 <= getattr(self, name) < 100 or (name == "rate" and not self.rate):
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)} must be a number above 0")


Progress = Callable[[Mapping[str, Any]], None]
"""Called after each epoch with its line of the log."""


class Training:
    """A supernet's training in a folder: `run` goes on from the checkpoint there, if there is one.

    `identity`: JSON values (space, images) that a checkpoint must have been written with, besides the recipe.
    """

    def __init__(
        self,
        supernet: base.Supernet,
        batches: Batches,
        recipe: Recipe,
        folder: Path,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.supernet, self.batches, self.recipe, self.folder = supernet, batches, recipe, folder
        self.identity = {**asdict(recipe), **(identity or {})}
        self.space = supernet.space
        self.trained = base.trained(supernet.state)
        for value in self.trained.values():
            value.requires_grad_(True)
        self.largest, self.smallest = extremes(supernet)
        self.optimizer = schedule.optimizer(self.trained, recipe.rate, recipe.weight_decay)
        self.steps = recipe.epochs * batches.steps
        self.done = 0
        self.loss_sum: Tensor | float = 0.0
        self.seconds = 0.0

    def run(self, progress: Progress | None = None) -> None:
        """Train to the end; checkpoints every minute, a line of the log every epoch."""
        self._restore()
        self._cut_log()
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        first, per_epoch = divmod(self.done, self.batches.steps)[0], self.batches.steps
        for epoch in range(first, self.recipe.epochs):
            for step, x_NCHW, labels_N in self.batches.epoch(epoch, self.done - epoch * per_epoch):
                with schedule.seeded(self.recipe.seed, self.done, x_NCHW.device):
                    self.loss_sum += self._step(x_NCHW, labels_N, self._chosen(epoch, step))
                self.done += 1
                self.seconds = time.monotonic() - began
                if self.done % per_epoch == 0:
                    self._log(epoch, progress)
                if time.monotonic() - saved > SAVE_EVERY or self.done % per_epoch == 0:
                    self._save()
                    saved = time.monotonic()
        for value in self.trained.values():
            value.requires_grad_(False)

    # --- one step -----------------------------------------------------------------------------------------------------

    def _chosen(self, epoch: int, step: int) -> list[Architecture]:
        rng = random.Random(f"{self.recipe.seed}/{epoch}/{step}")
        open_to = released(self.space, epoch / self.recipe.epochs) if self.recipe.shrink else None
        if self.recipe.rule == "single":
            return [self._sample(rng, open_to)]
        if open_to == []:
            return [self.largest]
        smallest = self._mixed(self.smallest.choices, open_to)
        return [self.largest, *(self._sample(rng, open_to) for _ in range(self.recipe.random_paths)), smallest]

    def _sample(self, rng: random.Random, open_to: Sequence[int] | None) -> Architecture:
        return self._mixed([rng.randrange(len(v.choices)) for v in self.space.variables], open_to)

    def _mixed(self, choices: Sequence[int], open_to: Sequence[int] | None) -> Architecture:
        """These choices, but the largest architecture's where variables are not released; None: all are."""
        kept = self.largest.choices
        made: Architecture = self.space.make(
            [c if open_to is None or i in open_to else kept[i] for i, c in enumerate(choices)]
        )
        return made

    def _step(self, x_NCHW: Tensor, labels_N: Tensor, archs: Sequence[Architecture]) -> Tensor:
        """One update; its loss stays on the device, which the next step need not wait for."""
        schedule.set_rate(self.optimizer, self.done / self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        teacher_NK: Tensor | None = None
        total = torch.zeros((), dtype=torch.float64, device=x_NCHW.device)
        for arch in archs:
            logits_NK = self._logits(arch, x_NCHW)
            if teacher_NK is None:
                loss = F.cross_entropy(logits_NK, labels_N, label_smoothing=schedule.SMOOTHING)
                teacher_NK = logits_NK.detach().softmax(1)
            else:
                loss = F.cross_entropy(logits_NK, teacher_NK)
            (loss / len(archs)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        schedule.clip(self.trained)
        self.optimizer.step()
        return total / len(archs)

    def _logits(self, arch: Architecture, x_NCHW: Tensor) -> Tensor:
        side = self.supernet.inputs(arch).side
        if side != x_NCHW.shape[-1]:
            x_NCHW = F.interpolate(x_NCHW, size=side, mode="bilinear", antialias=True)
        network = self.supernet.network(arch).train()
        half = devices.computes_half(x_NCHW.device, side)
        with torch.autocast(x_NCHW.device.type, torch.bfloat16, enabled=half):
            logits_NK: Tensor = functional_call(network, dict(self.supernet.weights(arch)), (x_NCHW,))
        return logits_NK.float()

    # --- log and checkpoint -------------------------------------------------------------------------------------------

    def _log(self, epoch: int, progress: Progress | None) -> None:
        line = {
            "epoch": epoch + 1, "of": self.recipe.epochs, "loss": round(float(self.loss_sum) / self.batches.steps, 4),
            "rate": self.optimizer.param_groups[0]["lr"], "seconds": round(self.seconds, 1),
        }  # fmt: skip
        self.loss_sum = 0.0
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if progress is not None:
            progress(line)

    def _cut_log(self) -> None:
        """Epochs that a killed training had logged, but not saved, are logged again."""
        path = self.folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        path.write_text("".join(lines[: self.done // self.batches.steps]), encoding="utf-8")

    def _save(self) -> None:
        state = {
            "identity": self.identity, "done": self.done, "loss_sum": float(self.loss_sum), "seconds": self.seconds,
            "tensors": {key: value.detach() for key, value in self.supernet.state.items()},
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        partial = self.folder / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / CHECKPOINT)

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        saved = torch.load(path, weights_only=True, map_location="cpu")
        changed = [key for key, value in self.identity.items() if saved["identity"].get(key) != value]
        if changed:
            raise UserError(
                f"the training in {self.folder} was begun with another {', '.join(changed)}; give the same, or another "
                "--out"
            )
        with torch.no_grad():
            for key, value in self.supernet.state.items():
                value.copy_(saved["tensors"][key])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.done, self.loss_sum, self.seconds = saved["done"], saved["loss_sum"], saved["seconds"]


def extremes(supernet: base.Supernet) -> tuple[Architecture, Architecture]:
    """The largest and the smallest architecture by parameters, then multiply-adds: found variable by variable, which is
    exact where each variable's cost rises whatever the others are."""
    space = supernet.space

    def size(arch: Architecture) -> tuple[float, float]:
        costs = space.cost(arch)
        if "params" in costs:
            return costs["params"], costs.get("flops", 0)
        return sum(value.numel() for value in supernet.network(arch).parameters()), 0

    found = []
    for better in (max, min):
        choices = [len(v.choices) - 1 for v in space.variables]  # everything active
        for i, variable in enumerate(space.variables):
            options = [[*choices[:i], c, *choices[i + 1 :]] for c in range(len(variable.choices))]
            choices = better(options, key=lambda o: size(space.make(o)))
        found.append(space.make(choices))
    return found[0], found[1]


PHASES = (("ks",), ("d", "depth"), ("e", "mlp", "heads", "embed_dim"))
"""What progressive shrinking releases first, second and third: kernels, depths, widths, by the variables' names."""


def released(space: Any, progress: float) -> list[int]:
    """Positions of the variables that may leave the largest value, after this share of the training: none in the first
    quarter, then one phase a quarter. Variables of no phase (the resolution) are always free."""
    phases = int(4 * progress)

    def phase(name: str) -> int:
        kind = name.rstrip("0123456789_")
        return next((i + 1 for i, kinds in enumerate(PHASES) if kind in kinds), 0)

    return [i for i, variable in enumerate(space.variables) if phase(variable.name) <= phases]
