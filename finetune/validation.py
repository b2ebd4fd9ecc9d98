"""What is measured while a model is trained, on what it is never trained on; the training does not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import loss, proposals

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHOWN = {
    "held_out": "held-out loss",
    "regret": "regret of proposals",
    "regret_sampled": "sampled",
    "regret_batch": "of the best of 5 sampled",
    "regret_shown": "of the best shown",
    "regret_listed": "of what the digest lists first",
}
"""What is measured, and its words."""


@dataclass(frozen=True, slots=True)
class Validation:
    """`examples`: of held-out sources, tokenized; `digest_version`: for a Navigator's proposals, None for a model that
    makes none."""

    examples: Sequence[dict[str, list[int]]]
    tokenizer: PreTrainedTokenizerFast
    batch: int
    digest_version: int | None = None

    def measure(self, model: Any) -> dict[str, float]:
        """`held_out`: nats a target token; the others as `proposals.measure` says."""
        with undisturbed(model):
            found = {"held_out": loss.mean_loss(model, self.examples, self.batch)} if self.examples else {}
            if self.digest_version is not None:
                found |= proposals.measure(model, self.tokenizer, self.digest_version)
        return {name: round(value, 4) for name, value in found.items()}


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """In evaluation mode; afterwards the mode and all random numbers are as before."""
    import numpy as np
    import torch

    training, plain, arrays = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        model.train(training)
        random.setstate(plain)
        np.random.set_state(arrays)
