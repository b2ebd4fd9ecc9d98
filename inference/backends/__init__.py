"""Grammar backends, one a file: `create(vocabulary)` gives an object that turns `api.Constraint`s into processors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from collm_nas.api import Constraint, UserError

if TYPE_CHECKING:
    from inference.vocabulary import Vocabulary

_EXTRAS = ("llguidance", "xgrammar")  # packages of the extra `structured`


class Backend(Protocol):
    """Compiles constraints for one tokenizer."""

    def processor(self, constraint: Constraint) -> Any:
        """A fresh logits processor of Outlines' kind; UserError where the constraint can't be compiled."""


def names() -> list[str]:
    """The backends there are: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load(name: str, vocabulary: Vocabulary) -> Backend:
    """The backend of this name for this vocabulary; UserError if there is none or its package is not installed."""
    if name not in names():
        raise UserError(f"there is no grammar backend {name!r}; choose one of {', '.join(names())}")
    try:
        backend: Backend = import_module(f"{__name__}.{name}").create(vocabulary)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise UserError(
            f"grammar backend {name!r} needs the package {error.name}, which is not installed; get it with: "
            f"pip install 'collm-nas[structured]'"
        ) from None
    return backend
