"""How servers of OpenAI's kind take a constraint, one dialect a class: what a request holds, what its answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from collm_nas.api import Constraint
from inference import regexes


class Dialect:
    """One way of saying what a constraint is."""

    name: str
    """The request's field."""
    plain: Mapping[str, Any] = {}
    """What keeps the server from bending the model's law by defaults of its own."""
    chats: Mapping[str, Any] = {}
    """What keeps a chat model from thinking before it answers."""

    def prompt(self, text: str, whole: bool) -> dict[str, Any]:
        """A prompt as fields of a request; `whole`: the special tokens are in it."""
        return {"prompt": text}

    def fields(self, constraint: Constraint) -> dict[str, Any]:
        """The constraint as fields of a request."""
        raise NotImplementedError

    def read(self, constraint: Constraint, text: str) -> str:
        """The answer in what came back."""
        return text


class StructuredOutputs(Dialect):
    """vLLM (checked with 0.32)."""

    name = "structured_outputs"
    plain: Mapping[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    chats: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

    def prompt(self, text: str, whole: bool) -> dict[str, Any]:
        """Special tokens are added where there are none."""
        return {"prompt": text, "add_special_tokens": not whole}

    def fields(self, constraint: Constraint) -> dict[str, Any]:
        """A regular expression."""
        return {self.name: {"regex": regexes.of(constraint)}}


class GuidedRegex(StructuredOutputs):
    """Older vLLM."""

    name = "guided_regex"

    def fields(self, constraint: Constraint) -> dict[str, Any]:
        """A regular expression."""
        return {self.name: regexes.of(constraint)}


class Grammar(Dialect):
    """llama.cpp's servers."""

    name = "grammar"
    plain: Mapping[str, Any] = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
    chats: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

    def fields(self, constraint: Constraint) -> dict[str, Any]:
        """A grammar in GBNF."""
        return {self.name: regexes.gbnf(regexes.of(constraint))}


class JsonSchema(Dialect):
    """Whoever keeps to OpenAI's own field: texts that are no JSON are wrapped in an object."""

    name = "response_format"

    def fields(self, constraint: Constraint) -> dict[str, Any]:
        """A JSON schema."""
        schema = json.loads(constraint.text) if constraint.kind == "json" else _wrapped(regexes.of(constraint))
        return {self.name: {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}}

    def read(self, constraint: Constraint, text: str) -> str:
        """The text in the object; what is none as it came."""
        if constraint.kind == "json":
            return text
        try:
            return str(json.loads(text)["answer"])
        except (ValueError, TypeError, KeyError):
            return text


def _wrapped(regex: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "pattern": f"^(?:{regex})$"}},
        "required": ["answer"],
        "additionalProperties": False,
    }


DIALECTS: tuple[Dialect, ...] = (StructuredOutputs(), GuidedRegex(), Grammar(), JsonSchema())
"""In the order in which they are tried."""
