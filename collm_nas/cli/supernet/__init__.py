"""`collm-nas supernet ACTION ...`: one action a file here, with `add_arguments(parser)` and `run(args) -> int`."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

ACTIONS = {
    "train": "train a supernet of ours on your images",
    "evaluate": "score architectures with a supernet",
    "verify": "score the published subnets of an official file, and hold them against the published figures",
    "retrain": "train the winner of a run alone",
    "import": "check an official checkpoint and write it as safetensors",
    "cost": "multiply-adds and parameters of architectures",
}
"""Name -> one line of help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    for name, text in ACTIONS.items():
        _module(name).add_arguments(
            actions.add_parser(
                name, help=text, description=f"{text[0].upper()}{text[1:]}.", prog=f"{parser.prog} {name}"
            )
        )


def run(args: argparse.Namespace) -> int:
    """The chosen action."""
    status: int = _module(args.action).run(args)
    return status


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}_" if name == "import" else f"{__name__}.{name}")
