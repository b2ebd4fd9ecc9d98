"""Search spaces from YAML files: the format of the README, read safely and checked key by key.

Numbers among the choices are spelled as the file spells them (`1.50`, `007`); yes / no / true / null must be quoted,
because YAML would read them as other values.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from collm_nas.api import UserError, Variable
from collm_nas.spaces.base import CategoricalSpace

_MOST_BYTES = 256 * 1024
_MOST_VARIABLES = 256  # counting recurses once a variable
_COSTS = ("flops", "params", "latency")


def load(path: Path) -> CategoricalSpace:
    """The space that a YAML file defines; UserError names the file and the culprit."""
    return parse(_read(path), str(path))


def parse(text: str, source: str) -> CategoricalSpace:
    """The space that a YAML text defines; `source` names it in errors."""
    top = _mapping(safe_load(text, source), source, ("name", "description", "variables", "encoding", "costs"))
    name, template = _text(top, "name", source), top.get("encoding")
    if not name.strip() or not name.isprintable():
        raise UserError(f"{source}: `name` must be one line of text, e.g. `name: my-space`")
    if template is not None and not isinstance(template, str):
        raise UserError(f"{source}: `encoding` must be text like '{{a}} {{b}}', but got {_show(template)}")
    variables = _variables(top.get("variables"), source)
    try:
        space = CategoricalSpace(
            name,
            variables,
            template=template,
            description=" ".join(_text(top, "description", source, "").split()),
            costs=_costs(top.get("costs", {}), variables, source),
        )
        _ = space.size
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return space


# --- YAML -------------------------------------------------------------------------------------------------------------


class _Int(int):
    """A YAML integer that remembers its spelling."""

    text: str


class _Float(float):
    """A YAML float that remembers its spelling."""

    text: str


class _Loader(yaml.SafeLoader):
    """Safe, and strict: no repeated keys, no merge keys (they grow without bound), numbers with their spelling."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem="keys must be plain names", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """No merge keys."""

    def spelled_int(self, node: yaml.ScalarNode) -> _Int:
        value = _Int(yaml.SafeLoader.construct_yaml_int(self, node))
        value.text = str(node.value)
        return value

    def spelled_float(self, node: yaml.ScalarNode) -> _Float:
        value = _Float(yaml.SafeLoader.construct_yaml_float(self, node))
        value.text = str(node.value)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.spelled_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.spelled_float)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: larger than {_MOST_BYTES // 1024} KiB; a space file only lists variables")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a YAML file that defines a search space") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from None


def safe_load(text: str, source: str) -> Any:
    """What a YAML text says, read safely and strictly; UserError names source and line of what cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join((error.problem or error.context or "unreadable").split())
        if "constructor for the tag" in problem:
            problem += "; tags are not allowed, write plain text and numbers"
        raise UserError(f"{source}{where}: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: not readable as YAML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply; a space file holds a list of variables only") from None


# --- checks -----------------------------------------------------------------------------------------------------------


def _show(value: object) -> str:
    """A short name for what was found: aliases can make a printed value exponentially long."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence | set) and not isinstance(value, str | bytes):
        return "a list"
    return "nothing" if value is None else f"{str(value)[:40]!r}"


def _mapping(value: object, where: str, legal: Sequence[str]) -> dict[str, Any]:
    """`value` if it is a mapping whose keys are all legal."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a mapping with the keys {', '.join(legal)}, but got {_show(value)}")
    for key in map(str, value):
        if key not in legal:
            close = difflib.get_close_matches(key, legal, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{where}: unknown key {key[:40]!r}; legal: {', '.join(legal)}{hint}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: must be a list with at least one entry, but got {_show(value)}")
    return value


def _text(mapping: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = mapping.get(key, default)
    if not isinstance(value, str):
        raise UserError(f"{where}: `{key}` must be text, but got {_show(value)}")
    return value


def _choice(value: object, where: str) -> str:
    """A choice as text, spelled as in the file."""
    if isinstance(value, _Int | _Float) and math.isfinite(value):
        return value.text
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise UserError(f"{where}: YAML reads a choice as {value}; put yes, no, on, off, true, false in quotes")
    raise UserError(f"{where}: a choice must be text or a number, but got {_show(value)}; put it in quotes")


def _variables(value: object, source: str) -> list[Variable]:
    entries = _list(value, f"{source}: `variables`")
    if len(entries) > _MOST_VARIABLES:
        raise UserError(f"{source}: `variables` has {len(entries)} entries; at most {_MOST_VARIABLES} are supported")
    variables: list[Variable] = []
    for number, entry in enumerate(entries, start=1):
        where = f"{source}: variable number {number}"
        entry = _mapping(entry, where, ("name", "choices", "active_if"))
        name = _text(entry, "name", where)
        where = f"{source}: variable {name[:40]!r}"
        choices = tuple(_choice(c, where) for c in _list(entry.get("choices"), f"{where}: `choices`"))
        variables.append(Variable(name, choices, _conditions(entry.get("active_if", {}), variables, where)))
    return variables


def _conditions(value: object, before: list[Variable], where: str) -> tuple[tuple[int, frozenset[int]], ...]:
    """`active_if` as positions; it may name variables that stand before this one."""
    names = [v.name for v in before]
    if value == {}:
        return ()
    if not isinstance(value, dict):
        raise UserError(f"{where}: `active_if` must be a mapping {{variable: [choices]}}, but got {_show(value)}")
    conditions = []
    for parent, allowed in value.items():
        if parent not in names:
            legal = ", ".join(names) or "none"
            raise UserError(f"{where}: `active_if` names {_show(parent)}; it may name variables before it: {legal}")
        position = names.index(parent)
        legal_choices = before[position].choices
        texts = [_choice(c, where) for c in _list(allowed, f"{where}: `active_if` {parent}")]
        for text in texts:
            if text not in legal_choices:
                raise UserError(f"{where}: `active_if` {parent}: {text[:40]!r} is none of {', '.join(legal_choices)}")
        conditions.append((position, frozenset(legal_choices.index(text) for text in texts)))
    return tuple(conditions)


def _costs(value: object, variables: list[Variable], source: str) -> dict[str, dict[str, Any]]:
    names = [v.name for v in variables]
    costs: dict[str, dict[str, Any]] = {}
    for cost, table in _mapping(value, f"{source}: `costs`", _COSTS).items():
        where = f"{source}: `costs` {cost}"
        table = _mapping(table, where, ["base", *names])
        if "base" in names:
            raise UserError(f"{where}: rename variable 'base', which cannot be told from the constant part of a cost")
        costs[cost] = {"base": _number(table.get("base", 0), f"{where}: base"), "table": {}}
        for position, variable in enumerate(variables):
            if variable.name in table:
                costs[cost]["table"][position] = _per_choice(
                    table[variable.name], variable, f"{where}: {variable.name}"
                )
    return costs


def _per_choice(value: object, variable: Variable, where: str) -> tuple[int | float, ...]:
    values = _list(value, where)
    if len(values) != len(variable.choices):
        raise UserError(f"{where} has {len(values)} numbers for {len(variable.choices)} choices; give one a choice")
    return tuple(_number(v, where) for v in values)


def _number(value: object, where: str) -> int | float:
    if isinstance(value, _Int) and value >= 0:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value) if isinstance(value, float) else value
    raise UserError(f"{where}: a cost must be a finite number, zero or more, but got {_show(value)}")
