"""The whole recipe: base and two adapters in one folder, with a manifest (hashes, versions) and a card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from collm_nas.api import Role, UserError
from collm_nas.prompts import vocabulary_hash
from finetune import bases, begun, data, manifests, processes, quantized
from finetune.bases import Base
from finetune.card import card
from finetune.job import Job
from finetune.lora import adapt
from finetune.merge import merge
from finetune.recipes import Recipe
from finetune.validation import SHOWN

ROLES: tuple[Role, ...] = ("navigator", "generator")


def build(
    recipe: Recipe,
    datasets: Sequence[Path],
    out: Path,
    say: Callable[[str], None] = print,
    model: Path | None = None,
    name: str = "",
    *,
    tensorboard: bool = False,
    merged: bool = False,
) -> Path:
    """Train what is missing under `out` and return it; a killed run goes on where its last checkpoint was.

    `model`, called `name` by the user: a folder whose base gets new adapters; else the recipe trains one from scratch.
    `tensorboard`: event files, beside the checkpoints; `merged`: also each adapter with its base as one model.
    Raises UserError where `out` was begun with another recipe, dataset or model.
    """
    mined = [data.read_manifest(dataset) for dataset in datasets]
    version = _one_version(mined)
    quantized.check(recipe.quantize)
    now = begun.describe(recipe, mined, model)
    begun.check(out, now)
    job = Job(
        recipe=recipe,
        datasets=datasets,
        digest_version=version,
        held=data.held_out(datasets, recipe.held_out),
        out=out,
        say=say if processes.first() else _silent,
        tensorboard=tensorboard,
    )
    base = _base(job, now, model, name or str(model))
    for role in ROLES:
        job.say(f"adapter {role}: {getattr(recipe, role).steps} steps")
        adapt(job, role, base)
    if processes.first():
        manifest = _manifest(job, mined, base)
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        (out / "README.md").write_text(card(recipe, manifest, base.about))
        for role in ROLES if merged else ():
            say(f"merged {role}: {merge(base, role, out)}")
    return out


def _silent(text: str) -> None:
    """What all processes but the first say."""


def _base(job: Job, now: dict[str, Any], model: Path | None, name: str) -> Base:
    """Trained or given; from here on the folder is for this recipe alone."""
    if model is None:
        bases.check_trains(job.recipe)
        with processes.in_turn():
            begun.note(job.out, now)
        return bases.from_scratch(job)
    with processes.in_turn():
        base = bases.given(model, name, job.digest_version, job.out)
        begun.note(job.out, now)
    return base


def _one_version(mined: Sequence[dict[str, Any]]) -> int:
    versions = sorted({one["digest_version"] for one in mined})
    if len(versions) > 1:
        raise UserError(f"the datasets were mined with digest versions {versions}; one model reads one: mine again")
    return int(versions[0])


def _manifest(job: Job, mined: Sequence[dict[str, Any]], base: Base) -> dict[str, Any]:
    from transformers import AutoTokenizer

    recipe, out = job.recipe, job.out
    weights = [*sorted((out / "base").glob("*.safetensors")), *(out / r / "adapter_model.safetensors" for r in ROLES)]
    curves = [out / name for name in ("base", *ROLES) if (out / name / "loss.json").is_file()]
    vocabulary = AutoTokenizer.from_pretrained(base.tokenizer, local_files_only=True).get_vocab()
    return {
        "name": recipe.name,
        "digest_version": mined[0]["digest_version"],
        "encoding": "compact",
        **({} if base.named is None else {"base": base.named}),
        "sources": base.sources | {name: sha for one in mined for name, sha in one["sources"].items()},
        "datasets": manifests.of_datasets(mined),
        **({} if recipe.quantize is None else {"quantize": recipe.quantize}),
        **manifests.of_recipe(recipe),
        "tokenizer": vocabulary_hash(vocabulary),
        "weights": manifests.hashes(out, weights),
        "loss": {folder.name: _last_loss(folder) for folder in curves},
        "held_out": len(job.held),
        "validation": {folder.name: found for folder in curves if (found := _last_validation(folder))},
        "versions": manifests.versions(),
    }


def _last_loss(folder: Path) -> float:
    """Mean of the last five logged losses (nats a target token)."""
    curve = json.loads((folder / "loss.json").read_text())
    last = [float(row["loss"]) for row in curve if "loss" in row][-5:]
    return round(sum(last) / len(last), 4)


def _last_validation(folder: Path) -> dict[str, float]:
    """What was measured last, by name."""
    rows: list[dict[str, float]] = json.loads((folder / "loss.json").read_text())
    last = [row for row in rows if not row.keys().isdisjoint(SHOWN)][-1:]
    return {name: row[name] for row in last for name in SHOWN if name in row}
