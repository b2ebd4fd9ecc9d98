"""The log of a training for TensorBoard (extra `tensorboard`): loss and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

FOLDER = "tensorboard"


def logger(folder: Path) -> Callable[[Mapping[str, Any]], None]:
    """A function that adds a line of the training's log to the event files in the folder; UserError without the extra.

    A training that goes on adds to what is there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs the extra of that name: pip install tensorboard") from None
    writer: Any = None

    def log(line: Mapping[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = SummaryWriter(folder / FOLDER, purge_step=line["epoch"])
        for name in ("loss", "rate"):
            writer.add_scalar(name, line[name], line["epoch"])
        writer.flush()

    return log
