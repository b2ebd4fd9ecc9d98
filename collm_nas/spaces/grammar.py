"""A categorical space as a regular expression: what engines take as constraint text."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from collm_nas.api import Encoding, UserError

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

_LONGEST = 200_000  # characters; beyond this the conditions do not factorise and no backend compiles the text


def regex(space: CategoricalSpace, encoding: Encoding) -> str:
    """A regular expression for exactly the canonical spellings; UserError where it would be too long to use."""
    # Where no later variable depends on an earlier one, what follows is shared: alternatives are written out only
    # between such cuts, or the stages of a deep network would multiply.
    cuts = [i for i, needed in enumerate(space.needed) if not needed]
    text = "".join(_between(space, start, end, (), encoding) for start, end in pairwise(cuts))
    if len(text) > _LONGEST:
        raise UserError(f"space {space.name!r}: its conditions make a grammar of {len(text)} characters; too long")
    return text


def _between(space: CategoricalSpace, start: int, end: int, state: tuple[int, ...], encoding: Encoding) -> str:
    """What may stand for the variables from `start` to `end`, given the parents still needed (see `branches`)."""
    if start == end:
        return ""
    known = dict(zip(space.needed[start], state, strict=True))
    on = all(known[p] in allowed for p, allowed in space.variables[start].active_if)
    groups: dict[tuple[int, ...], list[int]] = {}
    for choice, after in space.branches(start, state):
        groups.setdefault(after, []).append(choice)
    options = [
        _choice(space, start, choices, encoding, on) + _between(space, start + 1, end, after, encoding)
        for after, choices in groups.items()
    ]
    if sum(map(len, options)) > _LONGEST:
        raise UserError(f"space {space.name!r}: its conditions do not factorise; the grammar would be too long to use")
    return _any_of(options)


def _choice(space: CategoricalSpace, position: int, choices: list[int], encoding: Encoding, active: bool) -> str:
    symbols = [space.symbol(position, c, encoding, active) for c in choices]
    if encoding == "compact" and len(symbols) > 1:
        return symbols[0][0] + "[" + "".join(symbol[1] for symbol in symbols) + "]"
    return _any_of([re.escape(symbol) for symbol in symbols])


def _any_of(options: list[str]) -> str:
    return options[0] if len(options) == 1 else "(?:" + "|".join(options) + ")"
