"""Our grammar masks and sampler inside vLLM: a logits processor that draws every row's token itself.

vLLM batches rows as it likes: they start and end at different steps and change their places. Each row of ours is found
by the key of its call and its number, and its state lives here, outside vLLM's batch. Shapes: B rows, V logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

if TYPE_CHECKING:
    from vllm import SamplingParams

    from inference.processors import Norms, Sampler

KEY, ROW = "collm_call", "collm_row"


@dataclass
class Call:
    """The rows of one call that is under way."""

    sampler: Sampler
    norms: Norms | None
    grammars: Sequence[Any]
    """A processor of Outlines' kind for each row; empty where vLLM holds the grammar, or there is none."""
    last: dict[int, int] = field(default_factory=dict)
    """Each row's last token."""

    def draw(self, row: int, logits_1V: torch.Tensor) -> int:
        """The row's next token, given its logits on the CPU."""
        if self.norms is not None:
            self.norms.rows[row] = self.norms.read(logits_1V)[0]
        if self.grammars:
            last_11 = torch.tensor([[self.last.get(row, -1)]])  # all that grammars read of a row
            logits_1V = self.grammars[row](last_11, logits_1V)
        self.last[row] = self.sampler.draw(row, logits_1V[0].to(torch.float64))
        return self.last[row]


_calls: dict[int, Call] = {}
_keys = count()


def enter(call: Call) -> int:
    """Make a call known to the processor; the key under which its rows are asked for."""
    key = next(_keys)
    _calls[key] = call
    return key


def leave(key: int) -> None:
    """Forget a call."""
    del _calls[key]


class Rows(LogitsProcessor):
    """0 at the token that each row of ours drew, -inf elsewhere; the rows of others are left alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._at: dict[int, tuple[int, int]] = {}  # place in the batch -> call and row

    def is_argmax_invariant(self) -> bool:
        """It is not: it decides."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the rows that came, went and moved."""
        process_dict_updates(self._at, batch_update, _row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` is (B, V) and is changed in place."""
        places = sorted(self._at, key=self._at.__getitem__)
        if not places:
            return logits
        mine = logits[places].to("cpu", torch.float32)
        for place, logits_V in zip(places, mine, strict=True):
            key, row = self._at[place]
            token = _calls[key].draw(row, logits_V[None])
            logits[place] = -torch.inf
            logits[place, token] = 0.0
        return logits


def _row(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> tuple[int, int] | None:
    extra = params.extra_args or {}
    return (extra[KEY], extra[ROW]) if KEY in extra else None
