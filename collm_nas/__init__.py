"""Neural architecture search by two small language models that run on your own machine.

`search`, `open_search` (`collm_nas.app`), `search_family` and `CollmSampler` are here; everything is imported when it
is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collm_nas import api, evaluators, optimizers, spaces
    from collm_nas.app import open_search, search
    from collm_nas.family import search_family
    from collm_nas.optuna_sampler import CollmSampler

    __version__: str

__all__ = [
    "CollmSampler",
    "__version__",
    "api",
    "evaluators",
    "open_search",
    "optimizers",
    "search",
    "search_family",
    "spaces",
]

_FUNCTIONS = {"search": "app", "open_search": "app", "search_family": "family", "CollmSampler": "optuna_sampler"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"collm_nas.{_FUNCTIONS[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"collm_nas.{name}")
    raise AttributeError(f"module 'collm_nas' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("collm-nas")
    except PackageNotFoundError:
        return "0+not-installed"
