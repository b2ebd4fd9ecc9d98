"""BatchNorm statistics of a stand-alone network, measured anew on images: part of every evaluation of a subnet.

A supernet's statistics are averages over all the paths that trained, hence no path's own. Each family has its rule:

- `ofa`: `set_running_statistics` of mit-han-lab/once-for-all @ f03b267. Averages over batches, weighted by their number
  of images, of batch means and of BIASED batch variances (so differences between batch means are in no variance).
- `spos`: the tester of megvii-model/SinglePathOneShot @ 36eed6c. From mean 0 and variance 1, an exponential average,
  with momentum 0.1, of batch means and of UNBIASED batch variances: later batches weigh more, the start 0.9^batches.

In both a layer normalises with the statistics of the batch at hand while they are collected.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from collm_nas.api import UserError

Procedure = Literal["ofa", "spos"]

MOMENTUM = 0.1  # torch's default, which the official SPOS code relies on


def recalibrate(module: nn.Module, batches: Iterable[Tensor], protocol: Procedure) -> nn.Module:
    """The same module, its BatchNorm2d statistics measured on image batches (N, C, H, W), in eval mode.

    Weights and the layers' momenta are left alone. `spos` runs the module in train mode as the official code does, so
    dropout that stands before a BatchNorm acts; `ofa` runs it in eval mode. A module without BatchNorm is only put in
    eval mode, and its batches are not read. UserError where the protocol is unknown or there is no batch; the module
    is then as it was.
    """
    if protocol not in ("ofa", "spos"):
        raise UserError(f"recalibration protocol {protocol!r} is unknown; it must be one of ofa, spos")
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    if layers:
        images = _at_least_one(batches)
        with torch.no_grad():
            (_ofa if protocol == "ofa" else _spos)(module, layers, images)
    return module.eval()


def averaged(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """The same module, its BatchNorm2d statistics the plain averages over batches of batch means and unbiased batch
    variances, in one pass; eval mode.

    Half of the work of `recalibrate(.., "ofa")`, from which it differs by biased variances: for the project's own fast
    protocol.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    module.eval()
    try:
        for layer in layers:
            layer.train().reset_running_stats()
        for seen, x_NCHW in enumerate(batches, start=1):
            for layer in layers:
                layer.momentum = 1 / seen  # torch's own plain average (None) would make the CPU wait for each layer
            module(x_NCHW)
    finally:
        module.eval()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return module


def _at_least_one(batches: Iterable[Tensor]) -> Iterable[Tensor]:
    stream = iter(batches)
    for first in stream:
        return itertools.chain([first], stream)
    raise UserError("recalibration got no batch of images; give at least one")


def _spos(module: nn.Module, layers: Sequence[nn.BatchNorm2d], batches: Iterable[Tensor]) -> None:
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        mean_C, var_C = _statistics(layer)
        mean_C.zero_()
        var_C.fill_(1)
        layer.momentum = MOMENTUM
    module.train()
    try:
        for x_NCHW in batches:
            module(x_NCHW)
    finally:
        module.eval()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _ofa(module: nn.Module, layers: Sequence[nn.BatchNorm2d], batches: Iterable[Tensor]) -> None:
    module.eval()
    averages = [_Averages(layer) for layer in layers]
    hooks = [layer.register_forward_pre_hook(a.observe) for layer, a in zip(layers, averages, strict=True)]
    try:
        for x_NCHW in batches:
            module(x_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    for average in averages:
        average.store()


class _Averages:
    """Averages of one layer's batch statistics over batches, weighted by their number of images."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self.mean_C, self.var_C = _statistics(layer)
        self.sum_mean_C, self.sum_var_C = torch.zeros_like(self.mean_C), torch.zeros_like(self.var_C)
        self.images = 0

    def observe(self, layer: nn.Module, args: tuple[Tensor]) -> None:
        """Puts this batch's statistics into the layer, which in eval mode then normalises with them."""
        (x_NCHW,) = args
        mean_1C11 = _mean(x_NCHW)
        self.mean_C.copy_(mean_1C11.flatten())
        self.var_C.copy_(_mean((x_NCHW - mean_1C11) ** 2).flatten())
        self.sum_mean_C += self.mean_C * len(x_NCHW)
        self.sum_var_C += self.var_C * len(x_NCHW)
        self.images += len(x_NCHW)

    def store(self) -> None:
        """A layer that no batch reached keeps its statistics."""
        if self.images:
            self.mean_C.copy_(self.sum_mean_C / self.images)
            self.var_C.copy_(self.sum_var_C / self.images)


def _mean(x_NCHW: Tensor) -> Tensor:
    """Over N, then H, then W, as the official code: (1, C, 1, 1)."""
    return x_NCHW.mean(0, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)


def _statistics(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return cast("Tensor", layer.running_mean), cast("Tensor", layer.running_var)
