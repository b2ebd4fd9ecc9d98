"""What a trainer needs to know of sampled answers: every token, and among which it was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collm_nas.api import Engine, Request


@dataclass(frozen=True, slots=True)
class Trace:
    """One answer as token ids, with the end token where there is one."""

    text: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    allowed: tuple[tuple[int, ...], ...]
    """For each token the ids that the constraint left, itself among them."""
    logps: tuple[float, ...]
    """Log-probability of each token among those ids: the law that it was drawn from."""


class Policy(Engine, Protocol):
    """An engine whose model is trained while it answers: each answer is by the weights of that moment."""

    model: Any
    """A `peft.PeftModel` with an adapter for each role, named as the role."""
    tokenizer: Any

    def trace(self, request: Request) -> Sequence[Trace]:
        """The answers of `generate` to a request without mask and with a top-p of 1, token by token."""
