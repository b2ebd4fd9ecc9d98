"""Compiled constraints, kept by their text; a sentence for those that a backend can't use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar

from outlines_core.json_schema import build_regex_from_schema

from collm_nas.api import Constraint, UserError

Grammar = TypeVar("Grammar")

_GRAMMARS = 64  # compiled constraints kept; a search uses two
_TAKEN_BY = {"lark": "llguidance", "gbnf": "xgrammar"}
_LONGEST = 300  # characters of a library's reason: some repeat the whole constraint


def compiler(backend: str, kinds: Mapping[str, Callable[[str], Grammar]]) -> Callable[[Constraint], Grammar]:
    """What compiles constraints for `backend`: `kinds` holds a function of the text for `regex` and for kinds beyond.

    A JSON schema becomes the regular expression of its compact spellings (no white space) for every backend: the
    libraries' own readings of schemas differ, and equal seeds must give equal candidates. The functions raise
    ValueError, TypeError, NotImplementedError or RuntimeError for text that they can't use; that becomes a UserError.
    """

    @lru_cache(_GRAMMARS)
    def compile_new(constraint: Constraint) -> Grammar:
        _check_kind(backend, ["regex", "json", *(kind for kind in kinds if kind != "regex")], constraint.kind)
        try:
            if constraint.kind == "json":
                return kinds["regex"](build_regex_from_schema(constraint.text, ""))
            return kinds[constraint.kind](constraint.text)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            reason = _short(" ".join(str(error).split()))
            raise UserError(
                f"grammar backend {backend!r} can't use the {constraint.kind} {constraint.text[:80]!r}: {reason}"
            ) from None

    return compile_new


def _check_kind(backend: str, legal: list[str], kind: str) -> None:
    if kind not in legal:
        several = f"{', '.join(legal[:-1])} or {legal[-1]}"
        raise UserError(
            f"grammar backend {backend!r} takes constraints of kind {several}, but got {kind!r}; "
            f"the one that takes it is {_TAKEN_BY.get(kind, 'none')!r}"
        )


def _short(reason: str) -> str:
    """A reason without its middle: libraries name the fault first or last."""
    half = _LONGEST // 2
    return reason if len(reason) <= _LONGEST else f"{reason[:half]} ... {reason[-half:]}"
