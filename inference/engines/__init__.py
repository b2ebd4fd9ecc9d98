"""Engines that run the models, one a file: `create(model, **options)` gives an `api.Engine`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from collm_nas.api import Engine, UserError


def names() -> list[str]:
    """The engines there are: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load(name: str, model: str | Path, **options: Any) -> Engine:
    """The engine of this name with this model folder loaded; UserError if either is missing or does not fit."""
    if name not in names():
        raise UserError(f"there is no engine {name!r}; choose one of {', '.join(names())}")
    engine: Engine = import_module(f"{__name__}.{name}").create(Path(model), **options)
    return engine
