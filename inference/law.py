"""The law of every answer to a request, where they are few enough to read them all: free, masked and conditioned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from collm_nas.api import Request
from inference.measure import after

if TYPE_CHECKING:
    from inference.engines._local import LocalEngine
    from inference.trie import Node
    from inference.vocabulary import Vocabulary


@dataclass(frozen=True)
class Law:
    """Log-probabilities of all allowed answers (without terminator), summed over the token sequences that spell each.

    For one answer, or the first: where several are distinct, the others' law follows from what is left.
    """

    logp: dict[str, float]
    """Under the model's own law: their sum is the chance that it says something allowed."""
    logp_masked: dict[str, float]
    """Masked token by token."""

    @cached_property
    def log_allowed(self) -> float:
        """Log of the model's chance to say something allowed."""
        return float(np.logaddexp.reduce([*self.logp.values()]))

    @property
    def conditional(self) -> dict[str, float]:
        """Log-probabilities under the model's law conditioned on what is allowed: what `reweighted` follows."""
        return {text: logp - self.log_allowed for text, logp in self.logp.items()}

    @property
    def divergence(self) -> float:
        """KL(masked || conditional) in nats: how far token-by-token masking bends the model's law."""
        wanted = self.conditional
        return max(0.0, sum(math.exp(q) * (q - wanted[text]) for text, q in self.logp_masked.items()))


def law(engine: LocalEngine, request: Request, most: int = 4096) -> Law:
    """The law of a constrained request; its `n` and `seed` don't matter.

    UserError where more than `most` answers are allowed, or where the token limit cuts some.
    """
    free: dict[str, list[float]] = {}
    masked: dict[str, list[float]] = {}
    for text, logp, logp_masked in _answers(engine.explore(request, most), engine.vocabulary):
        free.setdefault(text, []).append(logp)
        masked.setdefault(text, []).append(logp_masked)
    return Law(_sums(free), _sums(masked))


def _sums(logs: dict[str, list[float]]) -> dict[str, float]:
    return {text: float(np.logaddexp.reduce(parts)) for text, parts in logs.items()}


def _answers(node: Node, vocabulary: Vocabulary, text: str = "") -> Iterator[tuple[str, float, float]]:
    """Every answer below a node with its log-probabilities from there on."""
    masked_K = node.logps_K - np.logaddexp.reduce(node.logps_K)
    for k, (token, logp, logp_masked) in enumerate(
        zip(node.ids, node.logps_K.tolist(), masked_K.tolist(), strict=True)
    ):
        if token == vocabulary.eos:
            yield text, logp, logp_masked
        else:
            for answer, rest, rest_masked in _answers(node.children[k], vocabulary, after(vocabulary, text, token)):
                yield answer, logp + rest, logp_masked + rest_masked
