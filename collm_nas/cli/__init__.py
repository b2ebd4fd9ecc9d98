"""The command line: `collm-nas COMMAND ...`. Only the chosen command's module is imported.

A command's module has `add_arguments(parser)` and `run(args) -> int`; heavy things are imported in `run` alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from collm_nas.api import UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "search": ("collm_nas.cli.search", "search a space by two local language models, or by a baseline"),
    "ask": ("collm_nas.cli.ask", "architectures to evaluate elsewhere, as JSON lines"),
    "tell": ("collm_nas.cli.tell", "the results of what was asked for, in any order"),
    "mine": ("data_gen.command", "make training data from landscapes, tables or past searches"),
    "finetune": ("finetune.command", "train a base model, or an adapter for one role"),
    "bench": ("eval.command", "compare optimisers on one protocol with many seeds"),
    "ablate": ("eval.ablate_command", "what each part of the search brings: one factor at a time"),
    "supernet": ("collm_nas.cli.supernet", "train supernets, score architectures with them, verify official files"),
    "export": ("collm_nas.cli.export", "write the winner of a run with its weights, in files that load anywhere"),
    "watch": ("collm_nas.cli.watch", "follow a running search in the terminal"),
    "report": ("collm_nas.cli.report", "write the report of runs: an HTML page, or files for TensorBoard or MLflow"),
    "replay": ("collm_nas.cli.replay", "derive result and report of a run again from its journal"),
    "doctor": ("collm_nas.cli.doctor", "what this machine can run, what is missing, and what mends it"),
}
"""Name -> (module, one line of help)."""


class Parser(argparse.ArgumentParser):
    """Errors in one line, as all others; no abbreviated options, whose meaning would change with new ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit 2."""
        print(f"collm-nas: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for a usage or data error, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] not in COMMANDS:
            return _overview(arguments)
        command: Any = _module(COMMANDS[arguments[0]][0])
        parser = Parser(prog=f"collm-nas {arguments[0]}", description=COMMANDS[arguments[0]][1].capitalize() + ".")
        command.add_arguments(parser)
        given = argparse.Namespace(arguments=arguments[1:], locate=_locate, load_engine=_load_engine)
        parsed = parser.parse_args(arguments[1:], given)
        status: int = command.run(parsed)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"collm-nas: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would hide how to go on
        print(
            f"collm-nas: interrupted; {getattr(command, 'INTERRUPTED', 'run the same command again')}", file=sys.stderr
        )
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); what is left in the buffers goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _locate(model: str) -> Path:
    """The folder of a model by path or name, for the stages that may not import each other."""
    from collm_nas.stages import stage

    found: Path = stage("inference.folder").located(Path(model).expanduser())
    return found


def _load_engine(model: Path) -> Any:
    """The engine with a model folder's two adapters, for the same stages (`collm_nas.traces.Policy`)."""
    from collm_nas.stages import stage

    return stage("inference.engines").load("transformers", model, sampling="rejection")


def _module(name: str) -> Any:
    if name.startswith("collm_nas."):
        return importlib.import_module(name)
    from collm_nas.stages import stage

    return stage(name)


def _overview(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="collm-nas",
        usage="collm-nas COMMAND [OPTIONS]",
        description="Neural architecture search by two small language models that run on your own machine.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
        + "\n\n`collm-nas search` alone searches the built-in table; `collm-nas COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    if not arguments:
        parser.print_help()
        return 0
    if not arguments[0].startswith("-"):
        import difflib

        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        parser.error(f"unknown command {arguments[0]!r}; legal: {', '.join(COMMANDS)}{hint}")
    if parser.parse_args(arguments).version:
        import collm_nas

        print(f"collm-nas {collm_nas.__version__}")
    return 0
