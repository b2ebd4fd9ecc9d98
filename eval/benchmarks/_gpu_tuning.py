"""Tokens a second of fine-tuning: steps of the embedded recipe, a whole base and a LoRA adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.folder import EMBEDDED as EMBEDDED_MODEL

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from finetune.recipes import Lora, Training

DIGESTS = 8
"""Navigator's examples a landscape."""
WARM_UP = 2
"""Steps before the clock starts."""


def tuning(device: str, work: Path, *, landscapes: int, steps: int, batch: int | None) -> dict[str, Any]:
    """Tokens of the examples (padding does not count) a second, for both kinds of step of the recipe `embedded`.

    `batch`: examples a step; None: as many as the recipe has. The trainer picks the device: a GPU where one is visible.
    """
    from transformers import AutoModelForCausalLM

    from data_gen.examples import Form
    from data_gen.mine import mine
    from data_gen.mine_landscapes import Landscapes
    from finetune import data, tokenizer
    from finetune.pretrain import new_model
    from finetune.recipes import EMBEDDED

    dataset, cache, tok = work / "mined", work / "cache", tokenizer.build()
    mine(Landscapes(landscapes=landscapes, digests=DIGESTS, form=Form(targets=1)), dataset)

    def read() -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL / "base", local_files_only=True)

    def fresh() -> PreTrainedModel:
        return new_model(EMBEDDED.shape, tok, 0)

    base, lora = (replace(t, steps=steps, batch=batch or t.batch) for t in (EMBEDDED.base[-1], EMBEDDED.navigator))
    both = data.load(dataset, tok, None, cache, generator_share=base.generator_share)
    one = data.load(dataset, tok, "navigator", cache)
    return {
        "base": _speed(fresh, tok, both, base, work / "tuned-base"),
        "lora": _speed(read, tok, one, lora, work / "tuned-lora", EMBEDDED.lora),
    }


def _speed(
    make: Callable[[], PreTrainedModel],
    tok: PreTrainedTokenizerFast,
    examples: Dataset,
    training: Training,
    work: Path,
    lora: Lora | None = None,
) -> dict[str, Any]:
    from finetune import trainer

    lengths: list[int] = list(examples["length"])
    order = trainer.order(lengths, training)
    steps = min(training.steps, len(order) // training.batch)  # within one pass over the examples
    trainer.run(make(), tok, examples, replace(training, steps=WARM_UP), work / "warm-up", lora)
    done = trainer.run(make(), tok, examples, replace(training, steps=steps), work / "timed", lora)
    tokens = sum(lengths[i] for i in order[: steps * training.batch])
    seconds = done.state.log_history[-1]["train_runtime"]
    return {
        "tokens_per_second": round(tokens / seconds),
        "tokens": tokens,
        "steps": steps,
        "examples_per_step": training.batch,
        "dtype": "bfloat16" if trainer.bf16_pays() else "float32",
    }
