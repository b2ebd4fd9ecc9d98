"""What a user names on the command line as MODULE:OBJECT."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from collm_nas.api import UserError


def load(option: str, text: str) -> Any:
    """The object; modules of the current directory are found too, after installed ones. UserError where it is none."""
    module, _, name = text.partition(":")
    sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(f"{option} {text!r}: there is no module {error.name!r}; run where it can be imported") from None
    except AttributeError:
        raise UserError(f"{option} {text!r}: module {module!r} has no {name!r}; name what is in it") from None
