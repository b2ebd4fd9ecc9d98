"""What a constraint took from the model: the chance of an answer with and without it, token by token.

The model's own law is what decoding mode `free` draws from: the softmax of the logits at the request's temperature over
the tokens that an answer may hold. All figures depend on the request and the answer alone, not on how it was sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from collm_nas.api import END, TextMask
from inference.vocabulary import Vocabulary


class Step(NamedTuple):
    """One drawn token, and what the model thought of the K ids among which it was drawn."""

    ids: Sequence[int]
    logps_K: np.ndarray
    """Log-probabilities under the model's own law."""
    token: int


def after(vocabulary: Vocabulary, text: str, token: int) -> str:
    """The text with the token appended; `END` stands for the end token."""
    return text + (END if token == vocabulary.eos else vocabulary.texts[token] or "")


def allows(mask: TextMask, vocabulary: Vocabulary, text: str, last: int, token: int) -> bool:
    """Whether a string that the mask allows begins so; `last` is the token before (-1: none).

    Where the tokenizer merges pairs, strings that go on with one of the token's tails don't count: they are reached
    by another token.
    """
    if last >= 0 and vocabulary.splits_pair(last, token):
        return False
    longer = after(vocabulary, text, token)
    return mask.count(longer) > sum(mask.count(longer + tail) for tail in vocabulary.tails(token))


def measure(steps: Sequence[Step], mask: TextMask | None, vocabulary: Vocabulary) -> dict[str, Any]:
    """The fields `logp`, `logp_masked` and `removed` of `api.Completion`; the ids of `steps` are what a grammar allows.

    `mask` is the request's, as if this answer were the only one.
    """
    text, last, logp, logp_masked = "", -1, 0.0, 0.0
    removed = []
    for ids, logps_K, token in steps:
        kept = [k for k, t in enumerate(ids) if mask is None or allows(mask, vocabulary, text, last, t)]
        drawn = float(logps_K[list(ids).index(token)])
        allowed = float(np.logaddexp.reduce(logps_K[kept]))  # log of Z_t
        logp += drawn
        logp_masked += min(0.0, drawn - allowed)
        removed.append(max(0.0, -math.expm1(allowed)))
        text, last = after(vocabulary, text, token), token
    return {"logp": logp, "logp_masked": logp_masked, "removed": tuple(removed)}
