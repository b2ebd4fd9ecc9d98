"""A network that leaves the house: with its weights, its numbers and a card, loadable without this project.

`export_network` knows nothing of how the network came about; `facts` reads that from a run. The folder is checked
before it gets its name: what torch and onnxruntime compute from the written files is held against the network itself.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.supernets.export import card, check, formats
from collm_nas.supernets.export.facts import layers
from collm_nas.supernets.export.requirements import require

if TYPE_CHECKING:
    from torch import nn

    from collm_nas.images.inputs import Inputs

__all__ = ["check_free", "export_network", "require"]

CONFIG, CARD = "config.json", "README.md"


def export_network(
    network: nn.Module, inputs: Inputs, out: Path, facts: Mapping[str, Any], *, onnx: bool = True
) -> dict[str, Any]:
    """Write the folder `out` (`model.safetensors`, `model.pt2`, `model.onnx`, `config.json`, `README.md`), whole or not
    at all; returns what `config.json` holds, of which `check` tells the greatest difference.

    `network`: normalised images (N, C, side, side) to logits (N, K); a copy in float32 on the CPU is exported, in eval
    mode. `facts`: JSON values, see `export.facts.of`; `inputs`, `layers`, `files`, `check` are added here. Raises
    UserError where a package is missing, `out` holds anything or cannot be written, the network cannot be traced, or a
    written file computes other logits than the network.
    """
    if onnx:
        require()
    check_free(out)
    whole = plain(network)
    with _folder(out) as folder:
        files = formats.write(whole, inputs, folder, onnx=onnx)
        config = {
            **facts,
            "inputs": {**asdict(inputs), "channels": inputs.channels},
            "layers": layers(whole),
            "files": files,
            "check": check.compare(whole, inputs, folder, onnx=onnx),
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / CARD).write_text(card.render(config), encoding="utf-8")
    return config


def plain(network: nn.Module) -> nn.Module:
    """A copy in float32, on the CPU, contiguous, in eval mode."""
    import torch

    whole = copy.deepcopy(network).to("cpu", torch.float32)
    return whole.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload, no-any-return]


def check_free(out: Path) -> None:
    """UserError where `out` is anything but a new or empty folder in a place that can be written."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            kind = "is not empty" if out.is_dir() else "is a file"
            raise UserError(f"--out {out} {kind}; choose another folder, or remove it")
    except OSError as error:
        raise UserError(f"--out {out} cannot be read: {error.strerror}; choose another folder") from None
    above = next(p for p in out.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--out {out} cannot be written: {above} is no folder that you may write in; choose another")


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name at the end; nothing is left of it where anything fails."""
    beside = out.absolute().with_name(f".{out.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        yield beside
        _sync(beside)
        os.rename(beside, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; mend that, or choose another --out") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Contents reach the disk before the name does, so that a power cut leaves no hollow files."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
