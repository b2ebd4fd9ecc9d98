"""The winner of a run, opened again with its images, and trained alone in the run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from collm_nas import supernets
from collm_nas.api import Architecture, UserError
from collm_nas.evaluators import supernet as evaluators
from collm_nas.evaluators.supernet import SupernetEvaluator
from collm_nas.supernets import base, batches, own, retrain, store

FOLDER = "retrained"
MODEL, RESULT, CHECKPOINT = "model.safetensors", "result.json", "checkpoint.pt"
STARTS = ("fresh", "inherited")
DEFAULTS: dict[str, dict[str, Any]] = {"digits-mbconv": {"epochs": 60, "batch": 32}}
"""What differs from `retrain.Recipe` for a space."""


@dataclass(frozen=True)
class Winner:
    """The best architecture of a run, and what scored it."""

    run: Path
    arch: Architecture
    evaluator: SupernetEvaluator
    protocol: Mapping[str, Any]

    @property
    def native(self) -> str:
        """The architecture as users write it."""
        return self.evaluator.space.format(self.arch)


def reopen(
    run: Path,
    result: Mapping[str, Any],
    *,
    data: str | None = None,
    supernet: str | None = None,
    device: str | None = None,
) -> Winner:
    """The winner of the run whose `result.json` holds this; `data`, `supernet`: where its images and weights are now.

    UserError where no supernet scored the run, it found nothing, or its files are gone or have changed.
    """
    protocol = result["protocol"]
    if result["best"] is None:
        raise UserError(f"{run} found nothing within its caps, so there is no winner; search with others")
    moved = {**protocol, **({"supernet": supernet} if supernet else {})}
    if data:
        moved["data"] = {**protocol.get("data", {}), "source": data}
    evaluator = evaluators.reopen(moved, device)
    if evaluator.data.digest != protocol["data"]["digest"]:
        raise UserError(
            f"--data {moved['data']['source']}: these are not the images that {run} was scored on (their hash "
            "differs); give the same"
        )
    return Winner(run, evaluator.space.parse(result["best"]["arch"]), evaluator, protocol)


def train(
    winner: Winner,
    start: Literal["fresh", "inherited"] = "fresh",
    *,
    limit: int | None = None,
    progress: retrain.Progress | None = None,
    **recipe: Any,
) -> dict[str, Any]:
    """Train the winner in RUN/retrained; returns what `result.json` there holds. A second call goes on, or finds it
    finished and changes nothing.

    `start`: weights drawn anew by the seed, or those of the supernet. `limit`: at most so many of the supernet's
    training images; `recipe`: fields of `retrain.Recipe` that differ from the space's own. UserError where one is
    illegal, or the folder holds the training of another network or by another recipe.
    """
    if start not in STARTS:
        raise UserError(f"--from {start!r} is unknown; legal: {', '.join(STARTS)}")
    how = retrain.Recipe(**{**DEFAULTS.get(winner.evaluator.space.name, {}), **recipe})
    folder = winner.run / FOLDER
    identity = {
        "arch": winner.native, "from": start, "limit": limit,
        "supernet": winner.protocol["sha256"], "data": winner.evaluator.data.digest,
    }  # fmt: skip
    finished = _finished(folder, {**asdict(how), **identity})
    if finished is not None:
        return finished
    network = _network(winner, start, how.seed)
    images = _batches(winner, how, limit)
    _make(folder)
    seconds = retrain.train(network, images, how, folder / CHECKPOINT, progress, identity)
    return _write(winner, network, folder, {"recipe": asdict(how), **identity, "seconds": seconds})


def _finished(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a training that came to its end left; UserError where it was another one."""
    if not (folder / RESULT).is_file():
        return None
    held: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    was = {**held, **held["recipe"]}
    for key, value in identity.items():
        if was[key] != value:
            raise UserError(
                f"{folder} holds a network trained with {key.replace('_', ' ')} {was[key]}, not {value}; give the same "
                "options, or remove it"
            )
    return held


def _network(winner: Winner, start: str, seed: int) -> nn.Module:
    if start == "inherited":
        return winner.evaluator.network(winner.arch)
    named = winner.evaluator.protocol()["supernet"]
    if own.is_named(named) or store.facts(Path(named)).get("own"):
        raise UserError(f"--from fresh: how networks of {named} begin is not known here; use --from inherited")
    return base.extract(supernets.fresh(winner.evaluator.space, seed), winner.arch)  # type: ignore[arg-type]


def _batches(winner: Winner, how: retrain.Recipe, limit: int | None) -> batches.Batches:
    if limit is not None and limit < 2:
        raise UserError(f"--limit must be at least 2 images, but is {limit}")
    evaluator = winner.evaluator
    train, scored = evaluator.data.train, evaluator.splits["valid"]
    unseen_N = np.flatnonzero(~np.isin(train.numbers_N, scored.numbers_N))  # official protocols score on train images
    if len(unseen_N) < 2:
        raise UserError(
            f"the run's protocol {winner.protocol['images']} scores on all of the {len(train)} training images, so "
            "none is left to train on; search by the protocol fast"
        )
    images = train.take(unseen_N[:limit])
    return batches.prepare(images, evaluator.inputs(winner.arch), how.batch, how.seed, evaluator.device)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; mend that and run the same command") from None


def _write(winner: Winner, network: nn.Module, folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors, then the result, with which the training is finished."""
    tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}
    mine = _scored(winner, network, "retrained")
    store.save(folder / MODEL, tensors, {**told, "space": winner.evaluator.space.name, "accuracies": mine})
    accuracies = [*_scored(winner, None, "inherited"), *mine]
    costs = winner.evaluator.space.cost(winner.arch)
    result = {**told, "costs": costs, "accuracies": accuracies, "sha256": store.sha256(folder / MODEL)}
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, folder / RESULT)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return result


def _scored(winner: Winner, network: nn.Module | None, weights: str) -> list[dict[str, Any]]:
    """A row a split: percent of the images, standard error; without a network that of the supernet's weights."""
    evaluator, rows = winner.evaluator, []
    for split, use in (("valid", "held out" if network else "searched for"), ("test", "read once")):
        if split == "test" and evaluator.data.test is None:
            continue
        scored = (
            evaluator.score(winner.arch, split)
            if network is None
            else evaluator.score_network(network, winner.arch, split)
        )
        rows.append({
            "name": split, "value": scored.accuracy, "error": scored.error, "images": scored.images, "use": use,
            "weights": weights,
        })  # fmt: skip
    return rows
