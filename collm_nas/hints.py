"""Advice in a user's own words, `--hint "prefer kernel 7 late"`, as what the digest shows of it.

A hint is clauses parted by `;` or `,`. A clause: *prefer* (or *use*, *try*) or *avoid* (or *no*, *not*, *without*),
then words in any order: the choices (`7`, `conv3x3`, *large* and *small* for numbers), the variables (`kernel`, `ks11`,
`op1=conv3`; all that have the choice where none is named), and where (*early*, *late*, *first*, *last*).

It becomes the choices to take from, by variable (`prompts.Hint`). A tuned model weighs it against the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from collm_nas.api import UserError, Variable
from collm_nas.prompts import Hint
from collm_nas.spaces.base import CategoricalSpace

PREFER = {"prefer", "use", "try", "take", "want", "more"}
AVOID = {"avoid", "no", "not", "without", "never", "less"}
PLACES = {"early": 0, "late": 1, "first": 2, "last": 3}
SIZES = {"large": -1, "larger": -1, "big": -1, "high": -1, "wide": -1, "deep": -1} | dict.fromkeys(
    ("small", "smaller", "low", "narrow", "shallow"), 0
)
_ALIASES = {
    "kernel": ("k", "ks", "kernel"),
    "expansion": ("e", "expand"),
    "expand": ("e", "expand"),
    "depth": ("d", "depth"),
    "resolution": ("r",),
    "block": ("b",),
    "edge": ("e",),
    "operation": ("op",),
    "embedding": ("embed_dim",),
}
"""What people call variables whose names are short."""
_FILLER = {
    "a",
    "an",
    "the",
    "in",
    "on",
    "of",
    "at",
    "to",
    "for",
    "with",
    "and",
    "or",
    "size",
    "sizes",
    "ratio",
    "choice",
}


def read(text: str, space: CategoricalSpace) -> Hint:
    """The choices that the text is for, by variable; UserError names the word that says nothing of this space."""
    hint: dict[int, frozenset[int]] = {}
    for clause in re.split(r"[;,\n]", text):
        if clause.strip():
            for i, wanted in _clause(clause.strip(), space).items():
                both = hint.get(i, wanted) & wanted
                if not both:
                    raise UserError(f"--hint {text!r}: its clauses leave no choice of {space.variables[i].name!r}")
                hint[i] = both
    if not hint:
        raise UserError(f"--hint {text!r} says nothing; write, e.g., {_example(space)}")
    return hint


def words(hint: Hint, space: CategoricalSpace) -> str:
    """What was understood, for people: `ks1, ks2: 7; op1: conv3 or sep3`."""
    by_choices: dict[str, list[str]] = {}
    for i in sorted(hint):
        variable = space.variables[i]
        by_choices.setdefault(" or ".join(variable.choices[c] for c in sorted(hint[i])), []).append(variable.name)
    return "; ".join(f"{', '.join(names)}: {choices}" for choices, names in by_choices.items())


def _clause(clause: str, space: CategoricalSpace) -> Hint:
    said = [word for word in re.findall(r"[^\s=:]+", clause) if word.casefold() not in _FILLER]
    avoid = any(word.casefold() in AVOID for word in said)
    said = [word for word in said if word.casefold() not in PREFER | AVOID]
    places = [PLACES[word.casefold()] for word in said if word.casefold() in PLACES]
    said = [word for word in said if word.casefold() not in PLACES]
    named, values = _sorted_out(said, clause, space)
    if not values:
        raise UserError(f"--hint {clause!r} names no choice; write, e.g., {_example(space)}")
    at = [i for i in named or range(len(space.variables)) if _matching(values, space.variables[i])]
    if not at:
        of = " of " + ", ".join(space.variables[i].name for i in named[:4]) if named else ""
        raise UserError(f"--hint {clause!r}: {' '.join(values)!r} is no choice{of}; write, e.g., {_example(space)}")
    hint = {}
    for i in _placed(at, places):
        wanted = _matching(values, space.variables[i])
        rest = frozenset(range(len(space.variables[i].choices))) - wanted
        if avoid and not rest:
            raise UserError(f"--hint {clause!r} leaves no choice of {space.variables[i].name!r}")
        hint[i] = rest if avoid else wanted
    return hint


def _sorted_out(said: Sequence[str], clause: str, space: CategoricalSpace) -> tuple[list[int], list[str]]:
    """The numbers of the variables that words name, and the words that name choices."""
    named: set[int] = set()
    values: list[str] = []
    for word in said:
        variables = [i for i, v in enumerate(space.variables) if _is_name(word, v.name)]
        if variables:
            named.update(variables)
        elif word.casefold() in SIZES or any(_matching([word], v) for v in space.variables):
            values.append(word)
        else:
            names = ", ".join(dict.fromkeys(_stem(v.name) or v.name for v in space.variables))
            raise UserError(
                f"--hint {clause!r}: {word!r} is neither a variable nor a choice of {space.name}; its variables are "
                f"called {names}; write, e.g., {_example(space)}"
            )
    return sorted(named), values


def _is_name(word: str, name: str) -> bool:
    word, name = word.casefold(), name.casefold()
    single = word.removesuffix("s") if len(word) > 2 else word
    stems = {name, _stem(name)}
    known = [alias for spoken in (word, single) for alias in _ALIASES.get(spoken, ())]
    return bool(stems & {word, single, *known})


def _stem(name: str) -> str:
    return re.sub(r"[\d_]+$", "", name)


def _matching(values: Sequence[str], variable: Variable) -> frozenset[int]:
    """The choices of a variable that any of these words names."""
    found: set[int] = set()
    for word in values:
        if word.casefold() in SIZES:
            found |= _by_size(SIZES[word.casefold()], variable)
        else:
            found |= {c for c, choice in enumerate(variable.choices) if _same(word, choice)}
    return frozenset(found)


def _by_size(end: int, variable: Variable) -> set[int]:
    """The largest or smallest third of choices that are numbers, at least one."""
    try:
        sizes = [float(choice) for choice in variable.choices]
    except ValueError:
        return set()
    order = sorted(range(len(sizes)), key=lambda c: sizes[c])
    part = max(1, len(order) // 3)
    return set(order[-part:] if end else order[:part]) if len(order) > 1 else set()


def _same(word: str, choice: str) -> bool:
    """`conv3x3` is `nor_conv_3x3`, `skip` is `skip_connect`, `4` is `4.0`."""
    try:
        return float(word) == float(choice)
    except ValueError:
        pass
    plain_word, plain_choice = (re.sub(r"[^a-z0-9]", "", text.casefold()) for text in (word, choice))
    return plain_word == plain_choice or (len(plain_word) > 3 and plain_word in plain_choice)


def _placed(at: Sequence[int], places: Sequence[int]) -> list[int]:
    """Those of the variables, in the order of the space, that stand where the words say."""
    if not places:
        return list(at)
    half = (len(at) + 1) // 2
    by_place = (at[:half], at[len(at) - half :], at[:1], at[-1:])
    return sorted({i for place in places for i in by_place[place]})


def _example(space: CategoricalSpace) -> str:
    variable = next((v for v in space.variables if len(v.choices) > 1), space.variables[0])
    return repr(f"prefer {variable.name} {variable.choices[-1]}")
