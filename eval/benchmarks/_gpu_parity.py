"""Whether a device computes what the CPU does: logits of the supernets, greedy text of the embedded models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import Request, Role
from inference.folder import EMBEDDED

if TYPE_CHECKING:
    from torch import nn

    from collm_nas.supernets.base import Supernet

SPACES = ("ofa-mbv3", "spos-shufflenet", "autoformer-tiny")
ROLES: tuple[Role, ...] = ("navigator", "generator")


# --- logits -----------------------------------------------------------------------------------------------------------


def logits(device: str, work: Path, *, subnets: int, batch: int) -> dict[str, Any]:
    """For each space the greatest difference between CPU and device over some subnets, in units of the logits' standard
    deviation; float32 without TF32, weights and images drawn from a seed."""
    from torch.backends import cudnn

    with cudnn.flags(enabled=True, allow_tf32=False):  # matrix products go without it anyway, torch's default
        apart = {name: _apart(name, device, subnets, batch) for name in SPACES}
    return {"greatest_difference_in_std": apart, "subnets": subnets, "batch": batch}


def _apart(name: str, device: str, subnets: int, batch: int) -> float:
    from collm_nas import spaces, supernets

    supernet, rng = supernets.fresh(spaces.load(name)), random.Random(0)
    return max(_difference(supernet, supernet.space.sample(rng), device, batch) for _ in range(subnets))


def _difference(supernet: Supernet, arch: Any, device: str, batch: int) -> float:
    import torch

    from collm_nas.supernets.base import extract

    inputs, network = supernet.inputs(arch), extract(supernet, arch)
    shape = (batch, inputs.channels, inputs.side, inputs.side)
    x_NCHW = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected_NK = _measured(network, x_NCHW)(x_NCHW)
        found_NK = network.to(device)(x_NCHW.to(device)).cpu()
    difference = (found_NK - expected_NK).abs().max() / expected_NK.std()
    if not difference.isfinite():
        raise ArithmeticError(f"{supernet.space.name} {arch}: logits that are not finite, or all the same")
    return float(f"{float(difference):.3g}")


def _measured(network: nn.Module, x_NCHW: Any) -> nn.Module:
    """With BatchNorm statistics of these images, or drawn weights let activations grow from layer to layer."""
    from collm_nas import supernets

    return supernets.recalibrate(network, [x_NCHW], "ofa")


# --- greedy text ------------------------------------------------------------------------------------------------------


def language(device: str, work: Path, *, prompts: int, max_tokens: int) -> dict[str, Any]:
    """How many greedy answers of the embedded models are the same text on CPU and device; float32."""
    asked = {role: mined(role, prompts) for role in ROLES}
    texts = [greedy(where, asked, max_tokens) for where in ("cpu", device)]
    equal = sum(a == b for a, b in zip(*texts, strict=True))
    return {"answers": len(texts[0]), "equal": equal, "max_tokens": max_tokens}


def mined(role: Role, count: int) -> list[str]:
    """So many prompts of a role, each of a synthetic landscape of its own."""
    from data_gen.examples import Form
    from data_gen.mine_landscapes import Landscapes

    source = Landscapes(landscapes=count, digests=1, form=Form(targets=1))
    return [next(e.prompt for e in source.examples(unit) if e.role == role) for unit in range(count)]


def greedy(device: str, asked: dict[Role, list[str]], max_tokens: int) -> list[str]:
    """The answers of the transformers engine, role by role; the engine itself would leave so small a model on the
    CPU."""
    from inference.engines.transformers import create

    engine = create(EMBEDDED)
    engine.model.to(device)
    requests = [Request(role, prompt, 1, 0, 0.0, max_tokens) for role, prompts in asked.items() for prompt in prompts]
    return [engine.generate(request)[0].text for request in requests]
