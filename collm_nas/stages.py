"""The stage packages (`data_gen`, `finetune`, `inference`, `eval`) have common names: import ours, and no other's."""

from __future__ import annotations

import importlib
from typing import Any

from collm_nas.api import UserError


def stage(module: str) -> Any:
    """The module of a stage package, e.g. `eval.report`; UserError names the path of another distribution's package."""
    name = module.partition(".")[0]
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"the package {name!r} is missing; install collm-nas whole, in an environment of its own"
        ) from None
    if getattr(package, "PROJECT", None) != "collm-nas":
        where = getattr(package, "__file__", None) or next(iter(getattr(package, "__path__", ["?"])))
        raise UserError(
            f"the package {name!r} at {where} belongs to another project and hides that of collm-nas; "
            "install collm-nas in an environment of its own, and run it from another folder"
        )
    return importlib.import_module(module)
