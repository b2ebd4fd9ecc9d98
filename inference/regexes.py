"""Regular expressions for servers: of a list of texts, of a JSON schema, and as a grammar of llama.cpp's dialect.

Python's own parser of regular expressions reads them; what no automaton has (references, looking ahead) is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from re import _constants as parts  # type: ignore[attr-defined]  # they have no public name since Python 3.11
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from collm_nas.api import Constraint, UserError
from collm_nas.spaces.grammar import escaped

_CLASSES = {"CATEGORY_DIGIT": "0-9", "CATEGORY_WORD": "0-9A-Z_a-z", "CATEGORY_SPACE": r" \t\n\r"}


def of(constraint: Constraint) -> str:
    """The constraint as a regular expression: of a JSON schema, the spellings without white space.

    UserError for grammars, which may say more than an expression can.
    """
    if constraint.kind == "regex":
        return constraint.text
    if constraint.kind == "json":
        from outlines_core.json_schema import build_regex_from_schema

        return build_regex_from_schema(constraint.text, "")
    raise UserError(f"a server takes constraints as regex or json, not as {constraint.kind}; use another engine")


def alternation(texts: Sequence[str]) -> str:
    """Exactly these texts. What several begin with is written once: matchers follow every alternative at a time."""
    first, last = min(texts), max(texts)
    shared = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    rests = sorted({text[len(shared) :] for text in texts})
    options = [alternation(list(group)) for _, group in groupby(rests, key=lambda rest: rest[:1])] if rests[1:] else []
    return escaped(shared) + (f"(?:{'|'.join(options)})" if options else "")


def gbnf(regex: str) -> str:
    """The same language in llama.cpp's dialect; UserError for what that has not."""
    return f"root ::= {_sequence(parser.parse(regex))}\n"


def _sequence(items: Iterable[tuple[Any, Any]]) -> str:
    pieces: list[str] = []
    for literal, group in groupby(items, key=lambda item: item[0] is parts.LITERAL):
        run = list(group)
        pieces += ['"' + "".join(_quoted(code) for _, code in run) + '"'] if literal else [_item(*item) for item in run]
    return " ".join(pieces) or '""'


def _item(kind: Any, value: Any) -> str:
    if kind is parts.BRANCH:
        return "(" + " | ".join(_sequence(option) for option in value[1]) + ")"
    if kind is parts.SUBPATTERN:
        return f"({_sequence(value[-1])})"
    if kind is parts.MAX_REPEAT:
        least, most, repeated = value
        return f"({_sequence(repeated)}){{{least},{'' if most is parts.MAXREPEAT else most}}}"
    if kind is parts.IN:
        return "[" + "".join(_member(*member) for member in value) + "]"
    if kind is parts.NOT_LITERAL:
        return f"[^{_coded(value)}]"
    if kind is parts.ANY:
        return r"[^\n]"
    raise _beyond(kind)


def _member(kind: Any, value: Any) -> str:
    """A part of a class of characters."""
    if kind is parts.NEGATE:
        return "^"
    if kind is parts.LITERAL:
        return _coded(value)
    if kind is parts.RANGE:
        return f"{_coded(value[0])}-{_coded(value[1])}"
    if str(value) in _CLASSES:
        return _CLASSES[str(value)]
    raise _beyond(value)


def _beyond(part: Any) -> UserError:
    return UserError(f"the constraint has {str(part).lower()}, which llama.cpp has no grammar for; use another engine")


def _quoted(code: int) -> str:
    """A character between quotes."""
    return chr(code) if chr(code).isprintable() and chr(code) not in '"\\' else _coded(code)


def _coded(code: int) -> str:
    """A character where marks have a meaning."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"  # of fixed length in every reader of GBNF
