"""Subnets scored on images that were decoded once and stay on the device.

What makes it quick, on the same images as a loop over a DataLoader: nothing is decoded, copied or normalised twice,
BatchNorm statistics come from one pass and are then folded into the convolutions, and on a CPU channels lie last and
each thread runs a chunk of images of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from collm_nas.api import Architecture, UserError
from collm_nas.images.inputs import Inputs
from collm_nas.images.split import ImageData, Split
from collm_nas.supernets import base, devices
from collm_nas.supernets.protocols import Protocol
from collm_nas.supernets.recalibration import averaged, recalibrate

CHUNK = {"cpu": 250, "cuda": 2500}
"""Images that are run at once: on a CPU, as many as the caches bear."""
LEAST = 16
"""Images at once, below which a chunk is not halved for want of memory."""
KEPT = 2 << 30
"""Bytes of normalised images that are kept; larger sets are normalised chunk by chunk, every time."""
RACE = 4
"""Parts in which a racing candidate sees the images."""


@dataclass(frozen=True)
class Score:
    """Share of images classified correctly, in percent, with its standard error; `images` seen."""

    accuracy: float
    error: float
    images: int


@dataclass
class Scorer:
    """Scores architectures of one supernet by one protocol. Memory: one copy of the supernet, one of a subnet."""

    supernet: base.Supernet
    data: ImageData
    protocol: Protocol
    device: torch.device
    _kept: dict[tuple[Inputs, str], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        calibration, valid = self.protocol.split(self.data)
        self.splits = {"calibration": calibration, "valid": valid}
        if self.data.test is not None:
            self.splits["test"] = self.data.test
        require_classes(self.supernet, self.data)

    def __getstate__(self) -> dict[str, Any]:
        """Without decoded images, which whoever gets a copy decodes again."""
        return {**self.__dict__, "_kept": {}}

    def network(self, arch: Architecture) -> nn.Module:
        """The stand-alone network that is scored: inherited weights, statistics measured by the protocol."""
        network = base.extract(self.supernet, arch).to(self.device)
        if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
            return network
        inputs = self.supernet.inputs(arch)
        if not len(self.splits["calibration"]):
            raise UserError(
                f"--protocol {self.protocol.name} leaves no image of {self.data.name} to measure BatchNorm on; take "
                "another, such as fast"
            )
        network.to(memory_format=devices.layout(self.device))  # type: ignore[call-overload]  # missing in torch's stubs
        with torch.no_grad():
            images = (x for x, _ in self._chunks(inputs, "calibration", self.protocol.batch))
            if self.protocol.procedure == "average":
                return averaged(network, images)
            return recalibrate(network, images, self.protocol.procedure)

    def score(self, arch: Architecture, split: str = "valid", best: float = -math.inf) -> Score:
        """Accuracy on a split. With `best` the race is on: it ends early where the score so far lies three standard
        errors below it."""
        return self.score_network(self.network(arch), self.supernet.inputs(arch), split, best)

    @torch.inference_mode()
    def score_network(self, network: nn.Module, inputs: Inputs, split: str = "valid", best: float = -math.inf) -> Score:
        """`score` of a network that is there already; it may be changed by folding."""
        network, total, right, seen = folded(network), len(self.splits[split]), 0, 0
        racing = best > -math.inf
        for part in range(1, RACE + 1) if racing else (RACE,):
            end = total * part // RACE
            right += self._right(network, inputs, split, seen, end)
            seen = end
            if racing and seen and hopeless(_score(right, seen), best):
                break
        return _score(right, seen)

    def _right(self, network: nn.Module, inputs: Inputs, split: str, start: int, end: int) -> int:
        """How many of these images are classified correctly; torch.OutOfMemoryError where even a few are too many."""
        size = CHUNK.get(self.device.type, 250)
        while True:
            try:
                return self._counted(network, inputs, split, start, end, size)
            except torch.OutOfMemoryError:
                if size < 2 * LEAST:
                    raise
            size //= 2
            devices.release(self.device)

    def _counted(self, network: nn.Module, inputs: Inputs, split: str, start: int, end: int, size: int) -> int:
        half = self.protocol.half and devices.computes_half(self.device, inputs.side)

        def count(chunk: tuple[Tensor, Tensor]) -> Tensor:
            x_NCHW, labels_N = chunk
            with torch.inference_mode(), torch.autocast(self.device.type, torch.float16, enabled=half):
                right: Tensor = (network(x_NCHW).argmax(1) == labels_N).sum()
                return right

        chunks = self._chunks(inputs, split, size, start, end)
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1:
            return int(sum(map(count, chunks)))
        return int(sum(_pool(threads).map(count, chunks)))

    # --- images -------------------------------------------------------------------------------------------------------

    def _chunks(
        self, inputs: Inputs, split: str, size: int, start: int = 0, end: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (N, C, H, W), in the device's layout, and labels (N,) of a part of a split."""
        pixels_NCHW, labels_N = (values[start:end] for values in self._decoded(inputs, split))
        for x_NCHW, y_N in zip(torch.split(pixels_NCHW, size), torch.split(labels_N, size), strict=True):
            yield (_normalized(x_NCHW, inputs) if x_NCHW.dtype == torch.uint8 else x_NCHW), y_N

    def _decoded(self, inputs: Inputs, split: str) -> tuple[Tensor, Tensor]:
        key = (inputs, split)
        if key not in self._kept:
            images = self.splits[split]
            pixels_NCHW = self._pixels(images, inputs, split).to(self.device)
            if pixels_NCHW.numel() * 4 <= KEPT:
                pixels_NCHW = _normalized(pixels_NCHW, inputs)
            self._kept[key] = pixels_NCHW, images.labels.to(self.device)
        return self._kept[key]

    def _pixels(self, images: Split, inputs: Inputs, split: str) -> Tensor:
        if split == "calibration" and self.protocol.augmentation is not None:
            return images.augmented(inputs, self.protocol.augmentation, seed=0)
        return images.pixels(inputs)


@torch.no_grad()
def require_classes(supernet: base.Supernet, data: ImageData) -> None:
    """UserError where its networks, of which one is run on a black image, have not one logit for each class."""
    arch = supernet.space.sample(random.Random(0))
    network, inputs = base.extract(supernet, arch), supernet.inputs(arch)
    like = next(network.parameters())
    logits_NK = network(torch.zeros(1, inputs.channels, inputs.side, inputs.side, dtype=like.dtype, device=like.device))
    if logits_NK.shape[1] != len(data.classes):
        raise UserError(
            f"the supernet of {supernet.space.name} tells {logits_NK.shape[1]} classes apart, but {data.name} has "
            f"{len(data.classes)}; give images of its classes, or train a supernet on these"
        )


def _normalized(pixels_NCHW: Tensor, inputs: Inputs) -> Tensor:
    return inputs.normalized(pixels_NCHW, torch.float32).contiguous(memory_format=devices.layout(pixels_NCHW.device))


def hopeless(score: Score, best: float) -> bool:
    """Whether it lies more than three standard errors below the best."""
    return score.accuracy + 3 * max(score.error, 100 / score.images) < best


def _score(right: int, seen: int) -> Score:
    share = right / seen
    return Score(100 * share, 100 * math.sqrt(share * (1 - share) / seen), seen)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Each thread runs chunks of its own: on small networks much quicker than all of them on one operation."""
    return ThreadPoolExecutor(threads, "score", lambda: torch.set_num_threads(1))


def folded(network: nn.Module) -> nn.Module:
    """The network, in eval mode, with BatchNorms folded into the convolutions before them, where a module names the
    three `conv`, `bn` and `act` (which then works in place); logits change by rounding only."""
    for module in network.modules():
        conv, bn = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(conv, bn), nn.Identity()
            if isinstance(act := getattr(module, "act", None), nn.ReLU | nn.Hardswish):
                act.inplace = True
    return network
