"""One request to a server of OpenAI's kind and its answers; and what the server can do, found out by trying."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from collm_nas.api import Constraint, UserError
from inference.engines._dialects import DIALECTS, Dialect
from inference.engines._http import Client, Refused

ROWS = 16
"""Most answers that a server is asked for at once."""

_FORM = Constraint("regex", "(?:q7z|x9k)[0-9]{12}")  # what no model writes by itself
_SMALL: dict[str, Any] = {"seed": 1, "temperature": 2.0, "max_tokens": 40, "top_p": 1.0}


class Reply(NamedTuple):
    """One answer; `finished` is False where the token limit cut it."""

    text: str
    finished: bool


class Replies(NamedTuple):
    """The answers to one request, and its tokens."""

    rows: list[Reply]
    prompt_tokens: int
    tokens: int
    logprobs: bool


@dataclass(frozen=True)
class Abilities:
    """What a server can do."""

    dialect: Dialect | None
    """How it takes a constraint; None: not at all."""
    rows: int
    """Answers at once."""
    seeds: bool
    """Whether the same seed gives the same answer."""
    logprobs: bool
    """Whether it tells log-probabilities."""


def ask(
    client: Client,
    opening: Mapping[str, Any],
    dialect: Dialect | None,
    constraint: Constraint | None,
    *,
    patient: bool = True,
    **settings: Any,
) -> Replies:
    """The answers to `opening`, which names a model and holds its `prompt` or `messages`; `settings`: further fields.

    Raises `Refused` where the server won't answer, UserError where what it answers can't be read.
    """
    body = {**opening, **(dialect.plain if dialect else {}), **settings}
    if constraint is not None:
        assert dialect is not None
        body |= dialect.fields(constraint)
    path = "/v1/chat/completions" if "messages" in opening else "/v1/completions"
    told = client.post(path, body, patient=patient)
    try:
        choices = sorted(told["choices"], key=lambda one: one.get("index", 0))
        rows = [Reply(_text(one), one.get("finish_reason") == "stop") for one in choices]
        usage = told.get("usage") or {}
        read, written = (int(usage.get(key) or 0) for key in ("prompt_tokens", "completion_tokens"))
        logprobs = any(one.get("logprobs") for one in choices)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f"the server {client.name} answers at {path} in a form that is not OpenAI's; use another server"
        ) from None
    if not rows:
        raise UserError(f"the server {client.name} gives an answer without a choice; see its log")
    if dialect is not None and constraint is not None:
        rows = [row._replace(text=dialect.read(constraint, row.text)) for row in rows]
    return Replies(rows, read, written, logprobs)


def _text(choice: Mapping[str, Any]) -> str:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return "" if text is None else str(text)


def abilities(client: Client, opening: Mapping[str, Any]) -> Abilities:
    """What the server can do with a model, by a few tiny requests; `Refused` where it answers not even a plain one."""
    dialect, first = None, None
    for one in DIALECTS:
        first = _try(client, opening, one)
        if first and all(re.fullmatch(_FORM.text, row.text) for row in first.rows):
            dialect = one
            break
    if dialect is None:
        first = ask(client, opening, None, None, **_SMALL)
    counts = (ROWS >> i for i in range(ROWS.bit_length() - 1))  # some refuse more than they have places for
    several = next((found for n in counts if (found := _try(client, opening, dialect, n=n))), None)
    again = _try(client, opening, dialect)
    told = _try(client, opening, dialect, logprobs=True if "messages" in opening else 1)
    return Abilities(
        dialect,
        len(several.rows) if several else 1,
        bool(first and again and first.rows == again.rows),
        bool(told and told.logprobs),
    )


def _try(client: Client, opening: Mapping[str, Any], dialect: Dialect | None, **settings: Any) -> Replies | None:
    """The answers to a tiny request, under a constraint where there is a dialect; None where the server can't."""
    form = None if dialect is None else _FORM
    try:
        return ask(client, opening, dialect, form, patient=False, **{**_SMALL, **settings})
    except Refused:
        return None
