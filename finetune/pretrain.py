"""Stage 1: the base from scratch, on both roles mixed (a role token ends each prompt)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from collm_nas.prompts import DOUBTS, LEVELS
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS
from finetune import processes, tokenizer, trainer
from finetune.job import Job
from finetune.recipes import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM


def new_model(shape: Shape, tok: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A random Qwen3 whose pair and evidence embeddings begin as sums of their parts."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tok),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_size,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        initializer_range=shape.initial,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    _compose_embeddings(model, tok)
    return model


def _compose_embeddings(model: Qwen3ForCausalLM, tok: PreTrainedTokenizerFast) -> None:
    """`a0` starts as (its letter + its choice): pairs of rare letters then profit from the common ones."""
    import torch

    weight_VD = model.get_input_embeddings().weight
    deviation, width = model.config.initializer_range, weight_VD.shape[1]
    parts = {key: torch.randn(width) * deviation for key in (*LETTERS, *("#" + c for c in CHOICE_CHARS))}
    direction, base = torch.randn(width) * deviation, torch.randn(width) * deviation
    doubts = torch.randn(DOUBTS, width) * deviation
    with torch.no_grad():
        for letter in LETTERS:
            for choice in CHOICE_CHARS:
                weight_VD[tok.convert_tokens_to_ids(letter + choice)] = (parts[letter] + parts["#" + choice]) / 2**0.5
        for i, level in enumerate(LEVELS):
            for doubt in range(DOUBTS):
                mixed = base + direction * (i - 7.5) / 4 + doubts[doubt]
                weight_VD[tok.convert_tokens_to_ids(f"<e{level}{doubt}>")] = mixed / 3**0.5


def pretrain(job: Job) -> Path:
    """Train the base into `out/base`, phase by phase; returns that folder. Resumes from checkpoints in `out/work`.

    The first phase learns from the first dataset and so on; the last dataset serves the phases that are left.
    """
    from transformers import Qwen3ForCausalLM

    recipe, work, base = job.recipe, job.work, job.out / "base"
    if (base / "model.safetensors").exists():
        return base
    tok = tokenizer.build()
    model = new_model(recipe.shape, tok, recipe.base[0].seed)
    last = base
    for i, training in enumerate(recipe.base):
        last = work / f"base-{i}" / "final"
        if not last.exists():
            examples, held_out = job.examples(
                min(i, len(job.datasets) - 1),
                tok,
                "navigator" if training.optimum_only else None,
                generator_share=training.generator_share,
                optimum_only=training.optimum_only,
                answers=training.answers,
            )
            shown = job.watch(last.parent.name, training, tok, held_out, True)
            trainer.keep(trainer.run(model, tok, examples, training, last.parent, shown=shown), tok, last)
        model = Qwen3ForCausalLM.from_pretrained(last, local_files_only=True)
    with processes.in_turn():
        if not base.exists():
            part = base.with_suffix(".part")
            shutil.copytree(last, part, dirs_exist_ok=True)
            part.rename(base)
    return base
