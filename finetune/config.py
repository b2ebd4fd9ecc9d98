"""A YAML file that changes a recipe: a mapping with the fields of `recipes.Recipe`, those alone that differ.

navigator: {steps: 50}
lora: {rank: 8}
base: [{steps: 10}, {}]     # the phases in order; {} leaves one as it is, a further one adds a phase
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from collm_nas.api import UserError
from finetune.quantized import KINDS
from finetune.recipes import Recipe, Shape, Training

_NOT_ZERO = {
    "steps", "stop", "batch", "micro_batch", "save_every", "log_every", "longest", "rank", "alpha",
    "searches", "points", "group", "batches", "first_anchor",
    *(one.name for one in fields(Shape) if one.name != "initial"),
}  # fmt: skip
_SHARES = {"generator_share", "final", "betas", "large", "huge", "real"}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which file a value stands."""

    file: Path
    key: str = ""

    def under(self, key: str) -> _Place:
        return _Place(self.file, f"{self.key}.{key}" if self.key else key)

    def error(self, text: str) -> UserError:
        return UserError(f"{self.file}: {f'`{self.key}` ' if self.key else 'it '}{text}")


def read(path: Path, recipe: Recipe) -> Recipe:
    """The recipe with the file's changes; UserError names the file, the key, and what is legal."""
    place = _Place(path)
    changed: Recipe = _over(recipe, _load(path), place)
    for name, training in (("navigator", changed.navigator), ("generator", changed.generator)):
        _check_training(training, place.under(name))
    for i, training in enumerate(changed.base):
        _check_training(training, place.under(f"base[{i}]"))
    if changed.shape.head_size % 2:
        raise place.under("shape.head_size").error(f"must be even, got {changed.shape.head_size}")
    return changed


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"--config {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read as UTF-8 text: {error}") from None
    try:
        _check_repeats(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None


def _check_repeats(node: yaml.Node | None, path: Path) -> None:
    """YAML's reader would take the last of two equal keys in silence."""
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _check_repeats(one, path)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise UserError(f"{path}: the key `{key.value}` appears twice (line {key.start_mark.line + 1})")
            seen.add(str(key.value))
            _check_repeats(value, path)


def _over(value: Any, changes: Any, place: _Place) -> Any:
    """The dataclass with the mapping's changes."""
    kinds = get_type_hints(type(value))
    legal = [one.name for one in fields(value) if one.name != "name"]
    if not isinstance(changes, dict):
        raise place.error(f"must be a mapping with keys of {', '.join(legal)}; got {changes!r}")
    for key in changes:
        if key not in legal:
            raise place.under(str(key)).error(f"is unknown; legal: {', '.join(legal)}")
    return replace(value, **{k: _value(kinds[k], getattr(value, k), new, place.under(k)) for k, new in changes.items()})


def _value(kind: Any, old: Any, new: Any, place: _Place) -> Any:
    if is_dataclass(old):
        return _over(old, new, place)
    if get_origin(kind) is UnionType:
        if new is None:
            return None
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        raise place.error("belongs to another recipe; this one has none")
    if get_origin(kind) is tuple:
        return _phases(old, new, place) if get_args(kind)[0] is Training else _pair(new, place)
    return _plain(kind, new, place)


def _phases(old: tuple[Training, ...], new: Any, place: _Place) -> tuple[Training, ...]:
    if not isinstance(new, list) or len(new) < len(old):
        raise place.error(f"must be a list of at least {len(old)} mappings, one a phase ({{}} changes nothing)")
    made = []
    for i, changes in enumerate(new):
        at = _Place(place.file, f"{place.key}[{i}]")
        if i >= len(old) and not (isinstance(changes, dict) and "steps" in changes):
            raise at.error("is a new phase, which must say its `steps`")
        made.append(_over(old[i] if i < len(old) else Training(steps=1), changes, at))
    return tuple(made)


def _pair(new: Any, place: _Place) -> tuple[float, ...]:
    if not isinstance(new, list) or len(new) != 2:
        raise place.error(f"must be a list of two numbers, got {new!r}")
    return tuple(_plain(float, one, place) for one in new)


def _plain(kind: type, new: Any, place: _Place) -> Any:
    """A whole number, number, truth or word within its bounds."""
    name = place.key.rpartition(".")[2]
    if kind is float and isinstance(new, int | str) and not isinstance(new, bool):
        new = _number(new)  # YAML takes 1e-3, without a point, for text
    if not isinstance(new, kind) or (kind is int and isinstance(new, bool)):
        raise place.error(f"must be {_WORDS[kind]}, got {new!r}")
    if kind is str and new not in KINDS:
        raise place.error(f"must be one of {', '.join(KINDS)} (or null), got {new!r}")
    if isinstance(new, int | float):
        _check_bounds(name, new, place)
    return new


def _check_bounds(name: str, new: float, place: _Place) -> None:
    least, most = (1 if name in _NOT_ZERO else 0), (1 if name in _SHARES else math.inf)
    if not least <= new <= most or not math.isfinite(new):
        raise place.error(f"must be at least {least}{' and at most 1' if most == 1 else ''}, got {new!r}")


def _number(text: int | str) -> float | int | str:
    try:
        return float(text)
    except ValueError:
        return text


def _check_training(training: Training, place: _Place) -> None:
    if training.stop is not None and training.stop > training.steps:
        raise place.under("stop").error(f"must be at most `steps` ({training.steps}), got {training.stop}")
    micro = min(training.micro_batch, training.batch)
    if training.batch % micro:
        raise place.under("batch").error(f"must be a multiple of `micro_batch` ({micro}), got {training.batch}")
