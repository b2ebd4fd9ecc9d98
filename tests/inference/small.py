"""Small random spaces and a tiny untrained model: with random weights, all that is right is the constraint's work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from collm_nas.api import Variable
from collm_nas.prompts import DIGEST_VERSION, vocabulary_hash
from collm_nas.spaces.base import CategoricalSpace

if TYPE_CHECKING:
    from inference.engines.transformers import TransformersEngine

CHOICES = ("1", "10", "k", "k3", "mb3_k3")  # some begin others; a letter with and without its pair


@st.composite
def spaces(draw: Any, most: int = 80) -> CategoricalSpace:
    """One to five variables, some active only under choices of earlier ones; at most about `most` architectures."""
    variables: list[Variable] = []
    size = 1
    for position in range(draw(st.integers(1, 5))):
        k = draw(st.integers(1, min(len(CHOICES), max(1, most // size))))
        size *= k
        conditions = []
        if position and draw(st.booleans()):
            parent = draw(st.integers(0, position - 1))
            count = len(variables[parent].choices)
            conditions.append((parent, draw(st.frozensets(st.integers(0, count - 1), min_size=1, max_size=count))))
        variables.append(Variable(f"v{position}", CHOICES[:k], tuple(conditions)))
    return CategoricalSpace("small", variables)


@st.composite
def parts(draw: Any, most: int = 80) -> CategoricalSpace:
    """A small space, or one of which a table covers a part."""
    space = draw(spaces(most))
    if draw(st.booleans()):
        rows = draw(st.lists(st.sampled_from(list(space.all())), min_size=1, unique=True))
        space = space.restrict(rows)
    return space


def build_model(folder: Path) -> Path:
    """A model folder as `finetune` writes it: our tokenizer, a random two-layer Qwen3, two random LoRA adapters."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from finetune.tokenizer import build

    tokenizer = build()
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model: Any = Qwen3ForCausalLM(config)
    model.save_pretrained(folder / "base")
    for seed, role in enumerate(("navigator", "generator")):
        torch.manual_seed(1 + seed)
        settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        tuned = get_peft_model(model, settings)
        tuned.save_pretrained(folder / role)
        model = tuned.unload()
    manifest = {
        "digest_version": DIGEST_VERSION,
        "encoding": "compact",
        "tokenizer": vocabulary_hash(tokenizer.get_vocab()),
        "sources": {"nothing": "0" * 64},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def load_model(folder: Path) -> TransformersEngine:
    """The engine of a model folder, as a search has it."""
    from inference import engines
    from inference.engines.transformers import TransformersEngine

    made = engines.load("transformers", folder, sampling="rejection")
    assert isinstance(made, TransformersEngine)
    return made
