"""What a model folder was begun with, in `work/begun.json`: another recipe or dataset may not go on with its
checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from finetune.recipes import Recipe

_FILE = Path("work") / "begun.json"


def describe(recipe: Recipe, mined: Sequence[dict[str, Any]], model: Path | None) -> dict[str, Any]:
    """Recipe, hashes of the datasets, and what tells the base from others; JSON values."""
    said = {
        "recipe": plain(recipe),
        "datasets": [one["shards"] for one in mined],
        "model": None if model is None else _identity(model),
    }
    return said


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return found


def check(out: Path, now: dict[str, Any]) -> None:
    """UserError where the folder was begun with something else; nothing is written."""
    then = _then(out)
    if then is None:
        if any(out.glob("work/*/checkpoint-*")) and now["recipe"]["held_out"]:
            raise UserError(
                f"{out} was begun by a version that held no examples out for validation; give another --out, or go on "
                "with a --config file that says held_out: 0"
            )
        return
    if found := differences(then["recipe"], now["recipe"]):
        differs = ", ".join(f"{key} {old!r}, not {new!r}" for key, old, new in found)
        raise UserError(f"{out} was begun with another recipe ({differs}); use that one, or give another --out")
    for key, word in (("datasets", "other datasets"), ("model", "another --model")):
        if key in then and then[key] != now[key]:
            raise UserError(f"{out} was begun with {word}; use the same again, or give another --out")


def _then(out: Path) -> dict[str, Any] | None:
    """What was noted; of a finished folder without its work, what the manifest says; None where neither is there."""
    for path in (out / _FILE, out / "manifest.json"):
        if path.is_file():
            said = json.loads(path.read_text())
            if path.name == _FILE.name:
                return dict(said)
            if "recipe" not in said:
                raise UserError(f"{path} is not of a model that was trained here; give another --out")
            return {"recipe": said["recipe"], "datasets": [one["shards"] for one in said["datasets"]]}
    return None


def note(out: Path, now: dict[str, Any]) -> None:
    """Write it down, once."""
    path = out / _FILE
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
        part.rename(path)


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """The values at which two JSON values differ, with their keys as a --config file nests them."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [
            (f"{key}.{k}" if key else k, old.get(k), new.get(k)) for k in [*old, *(k for k in new if k not in old)]
        ]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts = [(f"{key}[{i}]", *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    else:
        return [(key, old, new)] if old != new else []
    return [one for at, a, b in parts for one in differences(a, b, at)]


def _identity(model: Path) -> str:
    """SHA-256 over the settings, and the names and sizes of the weights, wherever the folder lies."""
    digest = hashlib.sha256()
    for folder in (model, model / "base"):
        for path in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")]):
            digest.update(path.name.encode() + str(path.stat().st_size).encode())
            digest.update(path.read_bytes() if path.suffix == ".json" else b"")
    return digest.hexdigest()
