"""Options that several actions share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from collm_nas.cli.search import number, whole


def add_images(group: Any) -> None:
    """Where the images are and on what they are scored."""
    group.add_argument(
        "--data", metavar="DIR", help="image folder (train/CLASS/*.jpg ...), Parquet files, or the built-in digits"
    )
    group.add_argument(
        "--valid", type=number, metavar="X", help="share or number of train images held out to score on (default 0.1)"
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_training(group: Any) -> None:
    """How long, how fast; None leaves the recipe's own value."""
    group.add_argument("--epochs", type=whole, metavar="N", help="passes over the training images")
    group.add_argument("--train-batch", dest="batch", type=whole, metavar="N", help="images a step (default 128)")
    group.add_argument("--rate", type=number, metavar="X", help="peak learning rate (default 0.1)")
    group.add_argument("--weight-decay", type=number, metavar="X", help="(default 1e-4)")
    group.add_argument("--seed", type=whole, metavar="N", help="of weights, order and architectures (default 0)")


def chosen(args: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def show_epoch(line: Mapping[str, Any]) -> None:
    """One line on stderr."""
    shown = f"epoch {line['epoch']} of {line['of']}, loss {line['loss']:.4f}, {line['seconds']:.0f} s"
    print(shown, file=sys.stderr)
