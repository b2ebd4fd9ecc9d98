"""One question a file: what it asks, and the cells that answer it. No list to edit.

A file has `QUESTION`, a sentence, and `CELLS`, of which the first is what the others are held against. Cells that
several questions share are searched once. `MEASURE` names what is compared, if not the regret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

REGRET = "normalised_regret"


@dataclass(frozen=True, slots=True)
class Cell:
    """A search by the models that differs from the default in these options of the row `collm` (see `eval.rows`);
    `relabel`, `reorder`: on the same problem with the choices of every variable, or the variables, in another order.
    `protocol`: fields of `eval.bench.Protocol` that are its own; budget and seeds are at most those of all cells."""

    label: str
    options: tuple[tuple[str, Any], ...] = ()
    relabel: bool = False
    reorder: bool = False
    protocol: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What a file asks."""

    name: str
    text: str
    cells: tuple[Cell, ...]
    measure: str = REGRET
    """What the answer speaks of: a column of `eval.ablate.tidy`."""


def cell(
    label: str,
    *,
    relabel: bool = False,
    reorder: bool = False,
    protocol: Mapping[str, int] | None = None,
    **options: Any,
) -> Cell:
    """A cell with these options."""
    return Cell(label, tuple(sorted(options.items())), relabel, reorder, tuple(sorted((protocol or {}).items())))


DEFAULT = cell("default")
"""The search as `collm-nas search` makes it."""


def names() -> list[str]:
    """The questions there are, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> Question:
    """The question of this name; UserError says which there are."""
    if name not in names():
        raise UserError(f"--question {name!r} is unknown; legal: {', '.join(names())}")
    module = import_module(f"{__name__}.{name}")
    return Question(name, module.QUESTION, module.CELLS, getattr(module, "MEASURE", REGRET))
