"""The processes of `accelerate launch`: the first writes and speaks, the others train with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process does what is in the block, then the others, who find it done."""
    if count() == 1:
        yield
    else:
        with _state().main_process_first():
            yield


def wait() -> None:
    """Until all are here."""
    if count() > 1:
        _state().wait_for_everyone()


def _state() -> Any:
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
