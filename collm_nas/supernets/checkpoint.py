"""Official checkpoint files as state dicts: safely read, out of their containers, held against what a supernet expects.

Files are unpickled with `weights_only`, which builds tensors and plain values alone; the one class allowed besides is
`argparse.Namespace`, in which AutoFormer's training script leaves its arguments. Nothing of a file is ever executed.
"""

from __future__ import annotations

import argparse
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from collm_nas.api import UserError

CONTAINERS = ("state_dict", "model")
"""Keys under which released files keep their tensors: OFA and SPOS the first, AutoFormer the second."""
PREFIX = "module."  # left by DataParallel

Source = str | os.PathLike[str] | Mapping[str, Any]


def read(source: Source) -> dict[str, Tensor]:
    """The state dict of a checkpoint file, of what `torch.load` gives for one, or of a state dict; dtypes are kept.

    Raises UserError where a file is missing, no checkpoint, or holds anything but tensors and plain values.
    """
    if isinstance(source, Mapping):
        return _tensors(source, "the checkpoint")
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"a checkpoint is a path, a state dict or what torch.load gives, not {type(source).__name__}")
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint {path}: there is no such file")
    loaded = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if not isinstance(loaded, Mapping):
        raise UserError(f"checkpoint {path}: it holds a {type(loaded).__name__}, but must hold a dict of tensors")
    return _tensors(loaded, f"checkpoint {path}")


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"checkpoint {path}: it is no safetensors file ({error})") from None


def _pickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols above 2, which it reads all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path}: refused, and not executed, for it is no plain checkpoint of tensors: "
            f"{_reason(str(error))}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"checkpoint {path}: it cannot be read as a torch file ({type(error).__name__}: "
            f"{(str(error).splitlines() or ['empty'])[0][:120]})"
        ) from None


def _reason(message: str) -> str:
    """What torch found, without its advice to read the file in the unsafe way."""
    for line in message.splitlines()[1:]:
        said = line.rpartition("WeightsUnpickler error:")[2].strip()
        if said and not said.startswith("Check the documentation"):
            return said.split(". ")[0][:200]
    return "it is damaged"


def _tensors(loaded: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    for container in CONTAINERS:
        inner = loaded.get(container)
        if isinstance(inner, Mapping):
            loaded = inner
            break
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{what}: {key!r} is a {type(value).__name__}, but a state dict holds tensors alone")
    if not loaded:
        raise UserError(f"{what}: it holds no tensors")
    if all(key.startswith(PREFIX) for key in loaded):
        return {key.removeprefix(PREFIX): value for key, value in loaded.items()}
    return dict(loaded)


def check(found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Tensor]:
    """`found` in the order of `expected`; UserError that names the first missing, unexpected or misshapen key."""
    for key, shape in expected.items():
        if key not in found:
            raise UserError(f"the checkpoint is not {what}'s: the key {key!r} is missing")
        if tuple(found[key].shape) != shape:
            raise UserError(
                f"the checkpoint is not {what}'s: {key!r} has shape {tuple(found[key].shape)}, expected {shape}"
            )
    for key in found:
        if key not in expected:
            raise UserError(f"the checkpoint is not {what}'s: the key {key!r} is unexpected")
    return {key: found[key] for key in expected}
