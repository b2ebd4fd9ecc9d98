"""The whole recipe: base and two adapters in one folder, with a manifest (hashes, versions) and a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collm_nas.api import Role, UserError
from collm_nas.prompts import vocabulary_hash
from finetune import bases, data
from finetune.bases import Base
from finetune.card import card
from finetune.lora import adapt
from finetune.recipes import Recipe

ROLES: tuple[Role, ...] = ("navigator", "generator")


def build(
    recipe: Recipe,
    datasets: Sequence[Path],
    out: Path,
    say: Callable[[str], None] = print,
    model: Path | None = None,
    name: str = "",
) -> Path:
    """Train what is missing under `out` and return it; a killed run goes on where its last checkpoint was.

    `model`, called `name` by the user: a folder whose base gets new adapters; else the recipe trains one from scratch.
    """
    mined = [data.read_manifest(dataset) for dataset in datasets]
    versions = sorted({one["digest_version"] for one in mined})
    if len(versions) > 1:
        raise UserError(f"the datasets were mined with digest versions {versions}; one model reads one: mine again")
    if model is None:
        base = bases.from_scratch(recipe, datasets, out, say)
    else:
        base = bases.given(model, name or str(model), versions[0], out)
    for role in ROLES:
        say(f"adapter {role}: {getattr(recipe, role).steps} steps")
        adapt(recipe, role, datasets[-1], base, out, out / "work" / f"cache-{len(datasets) - 1}")
    manifest = _manifest(recipe, mined, base, out)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (out / "README.md").write_text(card(recipe, manifest, base.about))
    return out


def _manifest(recipe: Recipe, mined: Sequence[dict[str, Any]], base: Base, out: Path) -> dict[str, Any]:
    import peft
    import torch
    import transformers
    import trl
    from transformers import AutoTokenizer

    weights = [*sorted((out / "base").glob("*.safetensors")), *(out / r / "adapter_model.safetensors" for r in ROLES)]
    curves = [out / name for name in ("base", *ROLES) if (out / name / "loss.json").is_file()]
    vocabulary = AutoTokenizer.from_pretrained(base.tokenizer, local_files_only=True).get_vocab()
    return {
        "name": recipe.name,
        "digest_version": mined[0]["digest_version"],
        "encoding": "compact",
        **({} if base.named is None else {"base": base.named}),
        "sources": base.sources | {name: sha for one in mined for name, sha in one["sources"].items()},
        "datasets": [
            {key: one[key] for key in ("miner", "labeller", "settings", "sources", "command", "shards")}
            for one in mined
        ],
        "recipe": asdict(recipe),
        "recipe_hash": hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest(),
        "tokenizer": vocabulary_hash(vocabulary),
        "weights": {str(path.relative_to(out)): _sha256(path) for path in weights},
        "loss": {folder.name: _last_loss(folder) for folder in curves},
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)},
    }


def _last_loss(folder: Path) -> float:
    """Mean of the last five logged losses (nats a target token)."""
    curve = json.loads((folder / "loss.json").read_text())
    last = [float(row["loss"]) for row in curve[-5:]]
    return round(sum(last) / len(last), 4)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
