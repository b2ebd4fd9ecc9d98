"""Stage 2: an adapter per role on the base."""

from __future__ import annotations

from pathlib import Path

from collm_nas.api import Role
from finetune import trainer
from finetune.bases import Base
from finetune.job import Job


def adapt(job: Job, role: Role, base: Base) -> Path:
    """Train the role's LoRA adapter into `out/ROLE`, on the last dataset; returns that folder. Resumes from checkpoints
    in `out/work`."""
    target = job.out / role
    if (target / "adapter_model.safetensors").exists():
        return target
    recipe = job.recipe
    model, tok, new = base.load(recipe.quantize)
    training = recipe.navigator if role == "navigator" else recipe.generator
    last, how = len(job.datasets) - 1, {"longest": recipe.longest, "answers": training.answers}
    examples, held_out = job.examples(last, tok, role, **how)
    shown = job.watch(role, training, tok, held_out, role == "navigator")
    done = trainer.run(model, tok, examples, training, job.work / role, recipe.lora, new, shown)
    trainer.keep(done, tok, target, base.named)
    return target
