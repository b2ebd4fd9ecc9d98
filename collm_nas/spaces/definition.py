"""The checks that make a list of variables and a template a space; each failure is one `UserError` sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from string import Formatter

from collm_nas.api import UserError, Variable

_NAME = re.compile(r"[^\W\d][\w.-]*")  # a name stands in templates and in prompts


def check_variables(space: str, variables: Sequence[Variable]) -> None:
    """Raises UserError where a name or choice repeats or cannot be spelled, or a condition points forward."""
    if not variables:
        raise UserError(f"space {space!r} has no variables; give at least one with its choices")
    seen: set[str] = set()
    for position, variable in enumerate(variables):
        where = f"space {space!r}: variable {variable.name!r}"
        if not _NAME.fullmatch(variable.name):
            raise UserError(f"{where}: a name must be a letter or _, followed by letters, digits, _ . or -")
        if variable.name in seen:
            raise UserError(f"{where} appears twice; names must be unique")
        seen.add(variable.name)
        _check_choices(where, variable)
        for parent, allowed in variable.active_if:
            if parent >= position:
                raise UserError(f"{where} depends on {variables[parent].name!r}, which must stand before it")
            if not allowed:
                raise UserError(f"{where} is never active; its active_if must list at least one choice")


def _check_choices(where: str, variable: Variable) -> None:
    if not variable.choices:
        raise UserError(f"{where} has no choices; give at least one")
    for choice in variable.choices:
        if variable.choices.count(choice) > 1:
            raise UserError(f"{where}: choice {choice!r} appears twice; choices must be unique")
        if not choice or choice != choice.strip() or not choice.isprintable():
            raise UserError(f"{where}: choice {choice!r} must be printable text, not empty, without spaces around it")


def split_template(space: str, template: str, variables: Sequence[Variable]) -> list[str]:
    """The literal text before the first variable and after each one; UserError if the form could not be read back."""
    literals, names = [""], []
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"space {space!r}: encoding {template!r} is no template: {error}") from None
    for text, field, spec, conversion in pieces:
        literals[-1] += text
        if field is None:
            continue
        if spec or conversion or not _NAME.fullmatch(field):
            raise UserError(f"space {space!r}: encoding may hold plain {{name}} fields only, but got {field!r}")
        names.append(field)
        literals.append("")
    if names != [v.name for v in variables]:
        raise UserError(
            f"space {space!r}: encoding must name every variable once, in their order "
            f"({', '.join(v.name for v in variables)}), but names {', '.join(names) or 'none'}"
        )
    if not "".join(literals).isprintable():
        raise UserError(f"space {space!r}: encoding {template!r} must be one line of printable text")
    _check_prefix_free(space, literals, variables)
    return literals


def _check_prefix_free(space: str, literals: list[str], variables: Sequence[Variable]) -> None:
    for i, variable in enumerate(variables):
        end = "\0" if i + 1 == len(variables) else ""
        spellings = sorted(choice + literals[i + 1] + end for choice in variable.choices)
        for one, other in pairwise(spellings):
            if other.startswith(one):
                raise UserError(
                    f"space {space!r}: the encoding is ambiguous at {variable.name!r} ({one!r} begins {other!r}); "
                    "put a separator after it"
                )


def number(text: str) -> float:
    """What a choice says as a number, else NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan
