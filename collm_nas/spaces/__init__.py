"""Search spaces by name or YAML path. A built-in space is one file here with `create(**options)`; no list to edit.

Its name is its file's, with dashes; a file that holds several says so in a literal `NAMES = {name: options}`.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import inspect
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from collm_nas.api import UserError, Variable

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

__all__ = ["from_spec", "load", "module_of", "names"]


def names() -> list[str]:
    """The built-in spaces, sorted."""
    return sorted(_built_in())


def module_of(name: str) -> str:
    """The file here that defines a built-in space; empty for a name that is none."""
    return _built_in()[name][0] if name in _built_in() else ""


def load(name_or_path: str | os.PathLike[str], **options: Any) -> CategoricalSpace:
    """A built-in space by name, with its options, or a space from a YAML file; UserError names the legal names."""
    text = os.fspath(name_or_path)
    if text in _built_in():
        return _create(text, options)
    if not (text.lower().endswith((".yaml", ".yml")) or os.sep in text or Path(text).is_file()):
        close = difflib.get_close_matches(text.lower().replace("_", "-"), names(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown space {text!r}; give a path to a YAML file or one of {', '.join(names())}{hint}")
    if options:
        raise UserError(f"space {text!r} is a YAML file, which takes no option, but got {', '.join(options)}")
    from collm_nas.spaces import yaml_space

    return yaml_space.load(Path(text))


def from_spec(spec: Mapping[str, Any]) -> CategoricalSpace:
    """The space that `CategoricalSpace.spec()` describes: the built-in one where it is still the same, else rebuilt."""
    if spec["name"] in _built_in():
        with contextlib.suppress(UserError):  # options of another version
            built_in = _create(spec["name"], dict(spec.get("options", {})))
            if built_in.spec() == spec:
                return built_in
    from collm_nas.spaces.base import CategoricalSpace

    position = {v["name"]: i for i, v in enumerate(spec["variables"])}
    choices = [v["choices"] for v in spec["variables"]]
    variables = [
        Variable(
            v["name"],
            tuple(v["choices"]),
            tuple(
                (position[parent], frozenset(choices[position[parent]].index(c) for c in allowed))
                for parent, allowed in v.get("active_if", {}).items()
            ),
        )
        for v in spec["variables"]
    ]
    costs = {
        cost: {"base": table["base"], "table": {position[k]: tuple(v) for k, v in table.items() if k != "base"}}
        for cost, table in spec.get("costs", {}).items()
    }
    return CategoricalSpace(
        spec["name"],
        variables,
        template=spec["encoding"],
        description=spec.get("description", ""),
        costs=costs,
        omit_inactive=spec.get("omit_inactive", False),
    )


def _create(name: str, options: dict[str, Any]) -> CategoricalSpace:
    module, fixed = _built_in()[name]
    create = importlib.import_module(f"{__name__}.{module}").create
    legal = [option for option in inspect.signature(create).parameters if option not in fixed]
    for option in options:
        if option not in legal:
            raise UserError(f"space {name!r} has no option {option!r}; its options: {', '.join(legal) or 'none'}")
    return cast("CategoricalSpace", create(**fixed, **options))


@cache
def _built_in() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> (module, fixed options), read from the files' text: importing them all would load heavy libraries."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\ndef create(" in text:
            for name, options in _names_in(text, path.stem.replace("_", "-")).items():
                found[name] = (path.stem, options)
    return found


def _names_in(text: str, default: str) -> dict[str, dict[str, Any]]:
    if "\nNAMES" not in text:
        return {default: {}}
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(t, ast.Name) and t.id == "NAMES" for t in targets):
            return cast("dict[str, dict[str, Any]]", ast.literal_eval(value))
    return {default: {}}
