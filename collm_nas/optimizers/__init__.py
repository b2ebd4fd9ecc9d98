"""Baseline optimisers, one a file: `create(problem, **options)` in `x_y.py` is the optimiser `x-y`. No list to edit."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any

from collm_nas import weighted
from collm_nas.api import Optimizer, Problem, UserError


def names() -> tuple[str, ...]:
    """The optimisers that lie in this folder, by their names on the shell."""
    return tuple(sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def create(name: str, problem: Problem, **options: Any) -> Optimizer:
    """The optimiser of this name; UserError names the nearest one, the options it takes, or the package it lacks.

    It gets several objectives as one, by weights (`collm_nas.weighted`), unless its file says that it knows them by
    itself (`SEVERAL`).
    """
    make, legal = _found(name)
    if package := missing(name):
        raise UserError(f"optimizer {name!r} needs the package {package}; install it with: {installing([name])}")
    for option in options:
        if option not in legal:
            raise UserError(f"optimizer {name!r} has no option {option!r}; legal: {', '.join(legal) or 'none'}")
    if getattr(_file(name), "SEVERAL", False):
        optimizer: Optimizer = make(problem, **options)
        return optimizer
    return weighted.around(problem, partial(make, **options))


def advisor(name: str, problem: Problem) -> Optimizer:
    """The optimiser of this name as it advises the language models, whose several objectives come as one; UserError as
    of `create`, and where it has a way of its own with several, which knows no weights."""
    _found(name)
    if len(problem.objectives) > 1 and getattr(_file(name), "SEVERAL", False):
        raise UserError(
            f"--advisor {name} has its own way with several objectives, and can't follow the weights that the models "
            "search by; use another, such as gp-exp"
        )
    return create(name, weighted.single(problem))


def options(name: str) -> tuple[str, ...]:
    """The options that this optimiser takes; UserError names the nearest name where it is unknown."""
    return _found(name)[1]


def missing(name: str) -> str | None:
    """The package that this optimiser needs (`NEEDS` of its file) and that is not installed, if any."""
    package: str | None = getattr(_file(name), "NEEDS", None)
    return None if package is None or find_spec(package) is not None else package


def installing(names: Iterable[str]) -> str:
    """The command that brings the packages of these optimisers (`EXTRA` of their files)."""
    return f"pip install 'collm-nas[{','.join(sorted({_file(name).EXTRA for name in names}))}]'"


def _found(name: str) -> tuple[Any, tuple[str, ...]]:
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"optimizer {name!r} is unknown; {hint}legal: {', '.join(known)}")
    make = _file(name).create
    return make, tuple(inspect.signature(make).parameters)[1:]


def _file(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
