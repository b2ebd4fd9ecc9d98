"""A supernet of one's own by name: `MODULE:OBJECT`, an object with the three methods of `supernets.base.Supernet`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from collm_nas import named
from collm_nas.api import UserError
from collm_nas.supernets import checkpoint
from collm_nas.supernets.base import Supernet

NEEDED = ("space", "state", "network", "weights", "inputs")


def is_named(text: str) -> bool:
    """Whether this is MODULE:OBJECT rather than a path."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load(text: str) -> Supernet:
    """The object, or what it returns when called without arguments; modules of the current directory are found too.

    Raises UserError where it is not there, or is no supernet.
    """
    found = named.load("--supernet", text)
    if not hasattr(found, "weights") or isinstance(found, type):
        if not callable(found):
            raise UserError(f"--supernet {text!r} is a {type(found).__name__}, but must be a supernet, or return one")
        found = found()
    missing = [part for part in NEEDED if not hasattr(found, part)]
    if missing:
        raise UserError(
            f"--supernet {text!r}: the {type(found).__name__} has no {missing[0]!r}; a supernet has {', '.join(NEEDED)}"
        )
    return cast("Supernet", found)


def fill(supernet: Supernet, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put trained tensors in place of the supernet's; UserError where keys or shapes differ."""
    found = checkpoint.check(tensors, {key: tuple(value.shape) for key, value in supernet.state.items()}, what)
    with torch.no_grad():
        for key, value in supernet.state.items():
            value.copy_(found[key])


def sha256(supernet: Supernet) -> str:
    """Of all shared tensors, key by key."""
    digest = hashlib.sha256()
    for key in sorted(supernet.state):
        digest.update(key.encode())
        digest.update(supernet.state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
