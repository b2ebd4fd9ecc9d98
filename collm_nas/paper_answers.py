"""Architectures in the free text of a chat model, and what of it counts as an attempt at one."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache

from collm_nas.api import Architecture, Candidate, UserError
from collm_nas.prompts import parse_candidate
from collm_nas.spaces.base import CategoricalSpace

_ITEM = re.compile(r"^\s*(?:[-*+•]|\d+\s*[.):])\s+")
_WRAPPING = " \t`'\"*,;."
_LONGEST = 500  # characters of an attempt that are kept: a rambling line is no architecture


def read(space: CategoricalSpace, text: str, proposer: str = "model") -> list[Candidate]:
    """Every attempt in the text as a candidate; illegal ones with what is wrong.

    An attempt is: each innermost `{...}`, where the native form is a JSON object; each string of a JSON list; else each
    line that spells an architecture somewhere, is an item of a list, or names a choice of two variables. Other lines
    (headings, fences, talk) count for nothing, but an answer without any attempt is one, as a whole.
    """
    pieces = [piece for piece in _pieces(space, text) if piece.strip()]
    return [_candidate(space, piece, proposer) for piece in pieces or [text]]


def _candidate(space: CategoricalSpace, piece: str, proposer: str) -> Candidate:
    try:
        return Candidate(_parse(space, piece), proposer, piece[:_LONGEST])
    except ValueError as error:
        return Candidate(None, proposer, piece[:_LONGEST], str(error))


def _parse(space: CategoricalSpace, piece: str) -> Architecture:
    found = _spelled(space).search(piece)
    if found and not _is_object(space):
        return space.parse(found[0])
    try:
        return parse_candidate(space, piece.strip(_WRAPPING))
    except UserError:
        if not piece.lstrip().startswith("{"):
            raise
    try:
        value = ast.literal_eval(piece.strip())  # the Python spelling of an object
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise UserError(f"neither JSON nor a Python dict: {piece[:60]!r}") from None
    return space.parse(value)


def _pieces(space: CategoricalSpace, text: str) -> Iterator[str]:
    if _is_object(space):
        yield from re.findall(r"\{[^{}]*\}", text)
        return
    listed = _strings(text)
    if listed:
        yield from listed
        return
    for line in text.splitlines():
        if _spelled(space).search(line) or _ITEM.match(line) or _named(space, line) > 1:
            yield _ITEM.sub("", line)


def _strings(text: str) -> list[str]:
    """The strings of the JSON list that the text holds, if it is one."""
    found = re.search(r"\[.*\]", text, re.DOTALL)
    try:
        value = json.loads(found[0]) if found else None
    except ValueError:
        return []
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _named(space: CategoricalSpace, line: str) -> int:
    """How many variables have a choice that stands in the line as a word."""
    words = set(re.findall(r"\w+", line))
    return sum(any(choice in words for choice in v.choices) for v in space.variables)


@lru_cache(maxsize=4)
def _spelled(space: CategoricalSpace) -> re.Pattern[str]:
    """A native spelling that is no part of a longer word."""
    return re.compile(rf"(?<![\w.])(?:{space.regex('native')})(?![\w.]*\w)")


@lru_cache(maxsize=4)
def _is_object(space: CategoricalSpace) -> bool:
    return space.format(next(space.all())).startswith("{")
