"""A supernet trained from a space and images, in a folder of its own: everything but the training itself."""

from __future__ import annotations

import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from collm_nas import images, spaces, supernets
from collm_nas.api import UserError
from collm_nas.images.split import ImageData
from collm_nas.supernets import batches, checkpoint, devices, own, protocols, scoring, store, training
from collm_nas.supernets.base import Supernet
from collm_nas.supernets.scoring import Score, Scorer

VALID = {"digits": 1000}
"""Images that are held out of a data set's training images where nothing else is said; else a tenth."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits-mbconv": {"rule": "single", "epochs": 120, "batch": 32},
    "cifar-mbconv": {"rule": "single", "batch": 32},
    "cifar-shufflenet": {"rule": "single", "batch": 32, "rate": 0.02},
    "spos-shufflenet": {"rule": "single"},
}
"""What differs from `training.Recipe` for a space."""
SHOWN = 3
"""Random subnets that are scored at the end."""


def default_valid(source: str | os.PathLike[str]) -> float:
    """Of a data source: how many images are held out where nothing else is said."""
    return VALID.get(os.fspath(source), 0.1)


def train(
    space: str,
    data: str | os.PathLike[str] | None,
    folder: Path,
    *,
    valid: float | None = None,
    limit: int | None = None,
    side: int | None = None,
    device: str | None = None,
    progress: training.Progress | None = None,
    **recipe: Any,
) -> dict[str, Score]:
    """Train the supernet of a space and save it in the folder; a second call goes on, or finds it finished.

    `space`: a name, or MODULE:OBJECT for a supernet of one's own, whose trained tensors are saved beside that name.
    `data` may be left out for digits-mbconv; `recipe`: fields of `training.Recipe` that differ from the space's own.
    Returns the scores of the largest, the smallest and some random subnets. UserError where space and images do not go
    together, or the folder holds another training.
    """
    source = data if data is not None else "digits" if space == "digits-mbconv" else None
    if source is None:
        if not own.is_named(space):
            spaces.load(space)  # a misspelled name is said first
        raise UserError(f"supernet train --space {space} needs images: give --data, an image folder or Parquet files")
    how = training.Recipe(**{**DEFAULTS.get(space, {}), **recipe})
    opened = images.open(source, valid=default_valid(source) if valid is None else valid, limit=limit)
    if not len(opened.valid):
        raise UserError(f"{opened.name}: no image is held out to score on; give --valid a share or a number")
    supernet = _supernet(space, opened, side, how.seed)
    where = devices.pick(device)
    facts = {
        "space": supernet.space.name,
        "options": getattr(supernet.space, "options", {}),
        "own": space if own.is_named(space) else None,
        "classes": list(opened.classes),
        "data": {"source": str(source) if source == "digits" else str(Path(source).resolve()), **opened.describe()},
        "recipe": asdict(how),
    }
    file = folder / store.FILE
    if file.is_file():
        _require_same(store.facts(file), facts, folder)
        supernet = reload(supernet.space, file)
    else:
        _train(supernet, opened, how, folder, where, progress, _identity(facts))
        store.save(file, supernet.state, facts)
        (folder / training.CHECKPOINT).unlink(missing_ok=True)
    return _scores(supernet, opened, where)


def reload(space: Any, file: Path) -> Supernet:
    """The supernet in a file that was trained here, be it of a space or of one's own; UserError where it is refused."""
    name = store.facts(file).get("own")
    if name is None:
        return supernets.load(space, file)
    supernet = own.load(name)
    own.fill(supernet, checkpoint.read(file), name)
    return supernet


def _supernet(space: str, opened: ImageData, side: int | None, seed: int) -> Supernet:
    if own.is_named(space):
        return _own(space, opened, seed, side)
    given = {} if side is None else {"side": side}
    whole: Any = spaces.load(space, **given)
    if not hasattr(whole, "options"):
        raise UserError(f"space {space!r} has no supernet that can be trained; legal: {', '.join(supernets.names())}")
    classes = whole.plan.classes if hasattr(whole, "plan") else None
    if classes is not None and classes != len(opened.classes):
        whole = spaces.load(space, **given, classes=len(opened.classes))
    return _fitting(supernets.fresh(whole, seed), space, opened)


def _own(name: str, opened: ImageData, seed: int, side: int | None) -> Supernet:
    if side is not None:
        raise UserError(f"--side is for spaces of this project; {name} says by its method inputs what its images are")
    torch.manual_seed(seed)  # where its tensors are drawn
    return _fitting(own.load(name), name, opened)


def _fitting(supernet: Supernet, name: str, opened: ImageData) -> Supernet:
    wanted = supernet.inputs(supernet.space.sample(random.Random(0))).channels
    if wanted != opened.channels:
        raise UserError(
            f"{name} is for {_colours(wanted)} images, but those of {opened.name} are {_colours(opened.channels)}"
        )
    scoring.require_classes(supernet, opened)
    return supernet


def _colours(channels: int) -> str:
    return "gray" if channels == 1 else "RGB"


def _require_same(found: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    was = {**_identity(found), "recipe": found.get("recipe")}
    for key, value in {**_identity(asked), "recipe": asked["recipe"]}.items():
        if was[key] != value:
            raise UserError(f"{folder} holds a supernet trained with another {key}; name another --out, or remove it")


def _identity(facts: dict[str, Any]) -> dict[str, Any]:
    """What must be the same when a training goes on, besides the recipe; the folder of images may have moved."""
    data = {key: value for key, value in facts.get("data", {}).items() if key not in ("source", "name")}
    return {**{key: facts.get(key) for key in ("space", "options", "own")}, "data": data}


def _train(
    supernet: Supernet,
    opened: ImageData,
    how: training.Recipe,
    folder: Path,
    device: torch.device,
    progress: training.Progress | None,
    identity: dict[str, Any],
) -> None:
    for key, value in supernet.state.items():
        supernet.state[key] = value.to(device)
    largest, _ = training.extremes(supernet)
    prepared = batches.prepare(opened.train, supernet.inputs(largest), how.batch, how.seed, device)
    _make(folder)
    training.Training(supernet, prepared, how, folder, identity).run(progress)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be made: {error.strerror}; choose another") from None


def _scores(supernet: Supernet, opened: ImageData, device: torch.device) -> dict[str, Score]:
    scorer = Scorer(supernet, opened, protocols.named("fast"), device)
    rng, (largest, smallest) = random.Random(0), training.extremes(supernet)
    shown = {"largest": largest, "smallest": smallest}
    shown |= {f"random {i + 1}": supernet.space.sample(rng) for i in range(SHOWN)}
    return {name: scorer.score(arch) for name, arch in shown.items()}
