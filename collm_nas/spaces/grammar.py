"""A categorical space as text that engines take as a constraint: a regular expression, or one of two kinds of grammar.

All say the same language: exactly the canonical spellings. `lark` is llguidance's dialect, `gbnf` xgrammar's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from collm_nas.api import Constraint, Encoding, UserError

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

Kind = Literal["regex", "lark", "gbnf"]

_LONGEST = 200_000  # characters; beyond this the conditions do not factorise and no backend compiles the text
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]()|]")  # no others: backends warn of escapes that are not needed


class _Dialect(NamedTuple):
    """How a kind of text spells its parts."""

    literal: Callable[[str], str]
    joint: str
    """What stands between parts that follow each other."""
    group: str
    """A choice among alternatives."""
    whole: str
    """The text, given its one expression."""


def escaped(text: str) -> str:
    """The text as a regular expression for itself, without an escape more than it needs."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


_DIALECTS: dict[str, _Dialect] = {
    "regex": _Dialect(escaped, "", "(?:{})", "{}"),
    # One terminal: several would be cut by the longest match, so that 10 could not be read as 1 and 0.
    "lark": _Dialect(_quoted, " ", "({})", "start: ARCHITECTURE\nARCHITECTURE: {}\n"),
    "gbnf": _Dialect(_quoted, " ", "({})", "root ::= {}\n"),
}


def constraint(space: CategoricalSpace, encoding: Encoding, kind: Kind = "regex") -> Constraint:
    """Exactly the canonical spellings (of the whole space, where a table covers a part), as text of this kind.

    UserError where it would be too long to use.
    """
    spelled, dialect = space.speller(encoding), _DIALECTS[kind]
    # Where no later variable depends on an earlier one, what follows is shared: alternatives are written out only
    # between such cuts, or the stages of a deep network would multiply.
    cuts = [i for i, needed in enumerate(spelled.needed) if not needed]
    parts = [_between(spelled, start, end, (), encoding, dialect) for start, end in pairwise(cuts)]
    text = dialect.whole.format(_join(dialect, parts))
    if len(text) > _LONGEST:
        raise UserError(f"space {space.name!r}: its conditions make a grammar of {len(text)} characters; too long")
    return Constraint(kind, text)


def regex(space: CategoricalSpace, encoding: Encoding) -> str:
    """A regular expression for exactly the canonical spellings; UserError where it would be too long to use."""
    return constraint(space, encoding).text


def _between(
    space: CategoricalSpace, start: int, end: int, state: tuple[int, ...], encoding: Encoding, dialect: _Dialect
) -> str:
    """What may stand for the variables from `start` to `end`, given the parents still needed (see `branches`)."""
    if start == end:
        return ""
    known = dict(zip(space.needed[start], state, strict=True))
    on = all(known[p] in allowed for p, allowed in space.variables[start].active_if)
    groups: dict[tuple[int, ...], list[int]] = {}
    for choice, after in space.branches(start, state):
        groups.setdefault(after, []).append(choice)
    options = []
    for after, choices in groups.items():
        symbols = [dialect.literal(space.symbol(start, c, encoding, on)) for c in choices]
        if dialect is _DIALECTS["regex"] and encoding == "compact" and len(symbols) > 1:
            symbols = [symbols[0][0] + "[" + "".join(symbol[1] for symbol in symbols) + "]"]
        rest = _between(space, start + 1, end, after, encoding, dialect)
        options.append(_join(dialect, [_any_of(dialect, symbols), rest]))
    if sum(map(len, options)) > _LONGEST:
        raise UserError(f"space {space.name!r}: its conditions do not factorise; the grammar would be too long to use")
    return _any_of(dialect, options)


def _join(dialect: _Dialect, parts: Sequence[str]) -> str:
    return dialect.joint.join(part for part in parts if part)


def _any_of(dialect: _Dialect, options: Sequence[str]) -> str:
    if len(options) == 1:
        return options[0]
    empty = '""' if dialect.joint else ""  # grammars name what is nothing
    return dialect.group.format("|".join(option or empty for option in options))
