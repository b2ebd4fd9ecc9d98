"""Grammar backends, one a file: `create(vocabulary)` gives an object that turns `api.Constraint`s into processors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from collm_nas.api import Constraint, UserError

if TYPE_CHECKING:
    from inference.vocabulary import Vocabulary

AUTO = "auto"
_SMALL = 8192  # tokens
_EXTRAS = ("xgrammar",)  # packages of the extra `structured`


class Backend(Protocol):
    """Compiles constraints for one tokenizer."""

    def processor(self, constraint: Constraint) -> Any:
        """A fresh logits processor of Outlines' kind; UserError where the constraint can't be compiled."""


def names() -> list[str]:
    """The backends there are: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def choose(name: str, size: int) -> str:
    """The backend that `auto` stands for with a vocabulary of this size; other names stay.

    Outlines' own compiles every state for every token: OFA's native grammar takes it 19 s with 49,152 tokens, 0.7 s
    with 2,240. llguidance looks at a state when it is met: 0.03 s.
    """
    return name if name != AUTO else "outlines_core" if size <= _SMALL else "llguidance"


def load(name: str, vocabulary: Vocabulary) -> Backend:
    """The backend of this name for this vocabulary; UserError if there is none or its package is not installed."""
    name = choose(name, vocabulary.size)
    if name not in names():
        raise UserError(f"there is no grammar backend {name!r}; choose {AUTO} or one of {', '.join(names())}")
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
