"""Weights that the network got after the search, in place of those it inherited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.supernets import checkpoint, store

if TYPE_CHECKING:
    from torch import nn

TRAINING = ("from", "recipe", "limit")
"""What a file of `supernet retrain` tells of its training."""


def load(network: nn.Module, path: Path, native: str) -> dict[str, Any]:
    """Put the file's tensors into the network of the architecture spelled `native`, and say what they are.

    That is `kind`, `file`, `sha256` and, where the file tells them, `training` and `accuracies` (rows with `name`,
    `value` in percent, `use`, perhaps `error`). UserError where the file is refused, or is another network's.
    """
    told = store.facts(path)
    if told.get("arch", native) != native:
        raise UserError(f"{path} holds the weights of {told['arch']}, not of the run's winner {native}; train that one")
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(checkpoint.check(checkpoint.read(path), expected, f"the network {native}"))
    return {
        "kind": "retrained",
        "file": path.name,
        "sha256": store.sha256(path),
        "training": {key: told[key] for key in TRAINING if key in told},
        "accuracies": [{**row, "weights": "retrained"} for row in told.get("accuracies", [])],
    }
