"""What is told of an exported network: where it comes from, what it is made of, what was measured on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
"""Raised whenever a reader of `config.json` would have to change."""
INHERITED = {"kind": "inherited"}
SEARCHED = "searched for"


def of(
    result: Mapping[str, Any], space: Any, classes: Sequence[str], weights: Mapping[str, Any] = INHERITED
) -> dict[str, Any]:
    """The facts of the best architecture of a run that a supernet scored, as `export_network` takes them.

    `result`: what `result.json` holds, with a best one. `space`: an `api.SearchSpace` with `spec()`. `classes`: in the
    order of the logits. `weights`: which are exported, see `weights.load`.
    """
    best, arch = result["best"], space.parse(result["best"]["arch"])
    protocol = portable(result["protocol"])
    return {
        "format": FORMAT,
        "architecture": {"native": space.format(arch), "choices": _choices(space, arch)},
        "space": space.spec(),
        "structure": structure(space, arch),
        "classes": list(classes),
        "costs": {**best["costs"], **space.cost(arch)},
        "weights": {key: value for key, value in weights.items() if key != "accuracies"},
        "accuracies": [*weights.get("accuracies", []), *_accuracies(best, protocol)],
        "search": {
            "evaluated": result["counts"]["evaluated"],
            "ended": result["ended"],
            "seed": result["seed"],
            "proposer": next(row["proposer"] for row in result["history"] if row["arch"] == best["arch"]),
        },
        "protocol": protocol,
        "versions": result["versions"],
    }


def _choices(space: SearchSpace, arch: Architecture) -> dict[str, str]:
    """Of the variables in use."""
    used = space.active(arch.choices)
    rows = zip(space.variables, arch.choices, used, strict=True)
    return {variable.name: variable.choices[choice] for variable, choice, on in rows if on}


def _accuracies(best: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the search saw, then what was read once, in percent of the images, all with the supernet's weights."""
    error = {"error": best["error"]} if "error" in best else {}
    seen = {"name": protocol["fitness"], "value": best["fitness"], **error, "use": SEARCHED}
    read = [{"name": name, "value": value, "use": "read once"} for name, value in best["report"].items()]
    return [{**row, "weights": "inherited"} for row in (seen, *read)]


def structure(space: Any, arch: Architecture) -> dict[str, Any]:
    """The numbers that a family builds this network from: `config`, and the `plan` that all its networks share."""
    found = {"config": space.config(arch) if hasattr(space, "config") else None, "plan": getattr(space, "plan", None)}
    return {
        key: dataclasses.asdict(value)
        for key, value in found.items()
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
    }


def layers(network: nn.Module) -> list[dict[str, str]]:
    """Every module without children, in order: where it is, its kind, its numbers in torch's words."""
    return [
        {"name": name, "kind": type(module).__name__, "numbers": module.extra_repr()}
        for name, module in network.named_modules()
        if not any(True for _ in module.children())
    ]


def portable(value: Any) -> Any:
    """JSON values with the names alone of files that were named by their whole path: it tells of another machine."""
    if isinstance(value, Mapping):
        return {key: portable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [portable(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
