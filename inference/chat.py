"""A request as the tokens that a model reads: chat template, history, and room for thinking.

A chat that outgrows the model's context loses its oldest turns, in pairs of question and answer; the system's stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from collm_nas.api import Request, Turn, UserError

OPEN, CLOSE = "<think>", "</think>"


class Prompt(NamedTuple):
    """What a model is given to go on with."""

    text: str
    ids: list[int]
    forgotten: int = 0
    """Turns of the history that had no room."""


class Chat:
    """How one model is spoken to."""

    def __init__(self, tokenizer: Any, room: int | None) -> None:
        """`room`: tokens of the model's context, None where it has no limit."""
        self._tokenizer = tokenizer
        self._room = room

    @property
    def thinks(self) -> bool:
        """Whether the chat template knows a block of thinking before the answer (as Qwen3's does)."""
        return CLOSE in str(self._tokenizer.chat_template or "")

    @property
    def templated(self) -> bool:
        """Whether there is a chat template, which writes the special tokens too."""
        return bool(self._tokenizer.chat_template)

    def prompt(self, request: Request) -> Prompt:
        """The request's prompt with as much of its history as there is room for.

        UserError where even without history there is none for the answer, or the prompt is empty.
        """
        system = [turn for turn in request.history if turn[0] == "system"]
        told = [turn for turn in request.history if turn[0] != "system"]
        wanted = request.max_tokens + request.reasoning
        for forgotten in range(0, len(told) + 2, 2):
            turns: list[Turn] = [*system, *told[forgotten:], ("user", request.prompt)]
            text = self._render(turns, request.reasoning > 0)
            ids = self.encode(text)
            if not ids:
                raise UserError(f"the {request.role}'s prompt is empty; a model needs at least one token to answer")
            if not self._room or len(ids) + wanted <= self._room:
                return Prompt(text, ids, min(forgotten, len(told)))
        raise UserError(
            f"the {request.role}'s prompt of {len(ids)} tokens and an answer of {wanted} exceed the model's context of "
            f"{self._room}; use a smaller space or a model with a longer context"
        )

    def _render(self, turns: Sequence[Turn], reasoning: bool) -> str:
        if not self.templated:
            return "\n\n".join(text for _, text in turns)
        messages = [{"role": who, "content": text} for who, text in turns]
        given = {"enable_thinking": reasoning} if self.thinks else {}
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
        return text

    def encode(self, text: str) -> list[int]:
        """The tokens of a rendered text; special ones are in it where there is a template, else added."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=not self.templated)["input_ids"]
        return ids


def after_thinking(prompt: str, thinking: str) -> str:
    """The text from which the answer is written: with the block closed, where one was opened, and nothing after it."""
    if OPEN not in prompt[-40:] + thinking:
        return prompt  # it answered at once; the answer is asked for again, under its constraint
    return prompt + thinking.partition(CLOSE)[0].rstrip() + f"\n{CLOSE}\n\n"
