"""The written files against the network: the same tensors, the same logits in torch and in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from collm_nas.api import UserError
from collm_nas.supernets.export.formats import INPUT, ONNX, OUTPUT, PROGRAM, SAFETENSORS, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

    from collm_nas.images.inputs import Inputs

TOLERANCE = 1e-4
"""Largest absolute difference of a logit, in standard deviations of the network's logits on these images."""
IMAGES = 4


def compare(network: nn.Module, inputs: Inputs, folder: Path, *, onnx: bool) -> dict[str, Any]:
    """The greatest differences, in standard deviations of the logits, by file; UserError where one is too great.

    The images are random bytes, normalised as `inputs` says, in batches of `IMAGES` and of one.
    """
    x_NCHW = images(inputs)
    with torch.no_grad():
        logits_NK = network(x_NCHW)
        if not logits_NK.isfinite().all():
            raise UserError("nothing is exported: the network's logits are not finite numbers; its weights are damaged")
        found = {PROGRAM: _torch(folder / PROGRAM, x_NCHW)}
    _compare_tensors(network, folder / SAFETENSORS)
    if onnx:
        found[ONNX] = _onnxruntime(folder / ONNX, x_NCHW)
    std = float(logits_NK.std())
    worst = {name: max(_difference(logits_NK[: len(y)], y) for y in ys) for name, ys in found.items()}
    for name, difference in worst.items():
        if not difference <= TOLERANCE * std:  # also where it is not a number
            remedy = "leave it out by --no-onnx" if name == ONNX else "make forward a function of its images alone"
            raise UserError(
                f"nothing is exported: {name} gives other logits than the network it was made from (difference "
                f"{difference:.3g}, allowed {TOLERANCE * std:.3g}); {remedy}"
            )
    return {
        "images": IMAGES,
        "tolerance": TOLERANCE,
        "logits_std": std,
        "difference": {name: difference / std if std else 0.0 for name, difference in worst.items()},
    }


def images(inputs: Inputs) -> Tensor:
    """Random bytes, always the same, as the network's numbers: float32 (IMAGES, C, side, side)."""
    shape = (IMAGES, inputs.channels, inputs.side, inputs.side)
    pixels_NCHW = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return inputs.normalized(pixels_NCHW, torch.float32)


def _compare_tensors(network: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    stored, own = load_file(path), network.state_dict()
    assert sorted(stored) == sorted(own)
    assert all(torch.equal(stored[key], value) for key, value in own.items())  # none is NaN: the logits are finite


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _batches(x_NCHW: Tensor) -> Iterator[Tensor]:
    yield x_NCHW
    yield x_NCHW[:1]


def _torch(path: Path, x_NCHW: Tensor) -> list[Tensor]:
    with quiet():
        module = torch.export.load(path).module()
    return [module(x) for x in _batches(x_NCHW)]


def _onnxruntime(path: Path, x_NCHW: Tensor) -> list[Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run([OUTPUT], {INPUT: x.numpy()})[0]) for x in _batches(x_NCHW)]
