"""Stage 2: an adapter per role on the base."""

from __future__ import annotations

from pathlib import Path

from collm_nas.api import Role
from finetune import data, trainer
from finetune.bases import Base
from finetune.recipes import Recipe


def adapt(recipe: Recipe, role: Role, dataset: Path, base: Base, out: Path, cache: Path) -> Path:
    """Train the role's LoRA adapter into `out/ROLE`; returns that folder. Resumes from checkpoints in `out/work`.

    `cache` keeps the tokenized examples.
    """
    target = out / role
    if (target / "adapter_model.safetensors").exists():
        return target
    model, tok, new = base.load()
    training = recipe.navigator if role == "navigator" else recipe.generator
    examples = data.load(dataset, tok, role, cache, longest=recipe.longest)
    done = trainer.run(model, tok, examples, training, out / "work" / role, recipe.lora, new)
    trainer.keep(done, tok, target, base.named)
    return target
