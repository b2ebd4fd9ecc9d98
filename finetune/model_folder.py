"""The whole recipe: base and two adapters in one folder, with a manifest (hashes, versions) and a card."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collm_nas.api import Role, UserError
from collm_nas.prompts import vocabulary_hash
from finetune import data, tokenizer
from finetune.lora import adapt
from finetune.pretrain import pretrain
from finetune.recipes import Recipe

ROLES: tuple[Role, ...] = ("navigator", "generator")


def build(
    recipe: Recipe,
    datasets: Sequence[Path],
    out: Path,
    say: Callable[[str], None] = print,
    model: Path | None = None,
) -> Path:
    """Train what is missing under `out` and return it; a killed run goes on where its last checkpoint was.

    `model`: a folder whose base is taken as it is, and gets new adapters; else the recipe trains one from scratch.
    """
    mined = [data.read_manifest(dataset) for dataset in datasets]
    versions = sorted({one["digest_version"] for one in mined})
    if len(versions) > 1:
        raise UserError(f"the datasets were mined with digest versions {versions}; one model reads one: mine again")
    if model is not None:
        taken = _taken(model, versions[0])
        base = _copy_base(model, out)
        mined_before = taken["sources"]
    else:
        if not recipe.base:
            raise UserError(f"the recipe {recipe.name!r} tunes adapters alone; say of which model: --model DIR")
        out.mkdir(parents=True, exist_ok=True)
        say("base: " + ", then ".join(f"{t.stop or t.steps} steps of {t.batch} examples" for t in recipe.base))
        base, mined_before = pretrain(recipe, datasets, out), {}
    for role in ROLES:
        say(f"adapter {role}: {getattr(recipe, role).steps} steps")
        adapt(recipe, role, datasets[-1], base, out, out / "work" / f"cache-{len(datasets) - 1}")
    manifest = _manifest(recipe, mined, out)
    manifest["sources"] = {**mined_before, **manifest["sources"]}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (out / "README.md").write_text(_card(recipe, manifest))
    return out


def _taken(model: Path, version: int) -> dict[str, Any]:
    """The manifest of a model whose base is to be taken; UserError where it is none, or reads other digests."""
    path = model / "manifest.json"
    if not path.is_file() or not (model / "base" / "config.json").is_file():
        raise UserError(f"--model {model} is no model folder of ours: it has no manifest.json, or no base")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest["digest_version"] != version:
        raise UserError(
            f"--model {model} reads digests of version {manifest['digest_version']}, the dataset has version "
            f"{version}; mine it again with --digest-version {manifest['digest_version']}"
        )
    return manifest


def _copy_base(model: Path, out: Path) -> Path:
    """The base under `out`, by hard links where the file system has them; whole or not at all."""
    base = out / "base"
    if not base.exists():
        part = base.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model / "base", part, copy_function=_link)
        part.rename(base)
    return base


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _manifest(recipe: Recipe, mined: Sequence[dict[str, Any]], out: Path) -> dict[str, Any]:
    import peft
    import torch
    import transformers
    import trl

    weights = [out / "base" / "model.safetensors", *(out / role / "adapter_model.safetensors" for role in ROLES)]
    return {
        "name": recipe.name,
        "digest_version": mined[0]["digest_version"],
        "encoding": "compact",
        "sources": {name: sha for one in mined for name, sha in one["sources"].items()},
        "datasets": [
            {key: one[key] for key in ("miner", "labeller", "settings", "sources", "command", "shards")}
            for one in mined
        ],
        "recipe": asdict(recipe),
        "recipe_hash": hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest(),
        "tokenizer": vocabulary_hash(tokenizer.build().get_vocab()),
        "weights": {str(path.relative_to(out)): _sha256(path) for path in weights},
        "loss": {name: _last_loss(out / name) for name in ("base", *ROLES)},
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)},
    }


def _last_loss(folder: Path) -> float:
    """Mean of the last five logged losses (nats a target token); that of a base as it was, where it was taken."""
    curve = json.loads((folder / "loss.json").read_text())
    last = [float(row["loss"]) for row in curve[-5:]]
    return round(sum(last) / len(last), 4)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _trained_on(mined: dict[str, Any]) -> str:
    settings = mined["settings"]
    if mined["miner"] != "landscapes":
        of = ", ".join(sorted(mined["sources"]))
        return f"  - `{mined['miner']}` of {of}; labels by `{mined['labeller']}`"
    first, count = settings["first_seed"], settings["landscapes"]
    large = f"{settings['large']:.0%} of them with 13 to 24 variables, {settings['huge']:.0%} with 25 to 50"
    return f"  - seeds {first} to {first + count - 1}, {large}; labels by `{mined['labeller']}`"


def _read(sources: dict[str, str]) -> str:
    if not sources:
        return "none. No result of any NAS benchmark was seen, directly or by choice of recipe."
    return (
        ", ".join(f"{name} (sha256 {sha[:12]}…)" for name, sha in sorted(sources.items()))
        + ": a search of them says `seen`."
    )


def _card(recipe: Recipe, manifest: dict[str, Any]) -> str:
    loss, shape = manifest["loss"], recipe.shape
    trained = "\n".join(_trained_on(one) for one in manifest["datasets"])
    commands = "`, `".join(one["command"] for one in manifest["datasets"])
    given = " ".join("--dataset DIR" for _ in manifest["datasets"])
    return f"""# Model card: {recipe.name}

A Qwen3-architecture base ({shape.layers} layers, width {shape.width}, {shape.heads} heads of {shape.head_size})
with its own tokenizer, trained from scratch, and two LoRA adapters on it: Navigator (digest to strategy) and
Generator (strategy to architecture). It optimises *in context*: it knows no operator and no benchmark.

- Trained on:
{trained}
- Tables or supernets read: {_read(manifest["sources"])}
- Made by: `{commands}`,
  then `collm-nas finetune --recipe {recipe.name} {given} --out DIR`.
- Loss at the end, nats a target token: base (both roles) {loss["base"]}, Navigator {loss["navigator"]},
  Generator {loss["generator"]}.
- Digest version {manifest["digest_version"]}, encoding {manifest["encoding"]}.
  Hashes of weights, tokenizer and data: manifest.json.
- Limits: spaces of at most 52 variables with 36 choices; it met up to 50 variables in training.
- Licence: Apache-2.0.
"""
