"""`collm-nas ask RUN`: architectures to evaluate elsewhere, as JSON lines; `collm-nas tell` takes their results."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from collm_nas.api import Architecture, UserError
from collm_nas.cli.search import add_limits, add_models, add_search, number, whole

if TYPE_CHECKING:
    from collm_nas.asktell import OpenSearch

WAIT = 60.0
"""Seconds to wait for another process that has the run."""
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those of the search begin a run, and an existing one keeps to them."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's folder; it is begun where there is none")
    parser.add_argument("-n", type=whole, metavar="N", help="how many architectures, at most (default --batch)")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--pending", action="store_true", help="list what is out, not yet told; nothing is asked for")
    out.add_argument(
        "--forget",
        metavar="ARCH",
        action="append",
        help="give up on one that is out, in native spelling, or on all; repeatable; nothing is asked for",
    )
    add_wait(parser)
    begin = parser.add_argument_group("to begin a run (an existing one keeps what it was begun with)")
    begin.add_argument("--space", metavar="S", help="a built-in space or a YAML file")
    begin.add_argument(
        "--seed", type=whole, metavar="N", help="the same asks and tells give the same search (default 0)"
    )
    begin.add_argument(
        "--reuse", metavar="RUN", action="append", default=[], help="take over an earlier run's evaluations; repeatable"
    )
    add_search(begin)
    add_limits(begin)
    add_models(parser.add_argument_group("language models"))


def add_wait(parser: argparse.ArgumentParser) -> None:
    """How long to wait for the run."""
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT,
        metavar="S",
        help=f"seconds to wait while another process asks or tells (default {WAIT:g})",
    )


def _seconds(text: str) -> float:
    if not 0 <= (seconds := number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, zero or more")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Print a line for each architecture; what else there is to say goes to stderr."""
    from collm_nas import reopen

    if args.pending or args.forget:
        if args.n is not None:
            raise UserError(
                f"-n asks for more, which {'--pending' if args.pending else '--forget'} does not; leave it out"
            )
        loop = reopen.telling(args.run, args.wait)
        try:
            _list_or_forget(loop, args)
        finally:
            loop.close()
        return 0
    if args.n is not None and args.n < 1:
        raise UserError(f"-n must be a whole number of at least 1, but is {args.n}")
    loop = _asked(args)
    try:
        archs = loop.ask(args.n)
        _print(loop, args.run, archs)
        if not archs:
            print(f"collm-nas: nothing to ask for: {_why(loop)}", file=sys.stderr)
            loop.result()
    finally:
        loop.close()
    return 0


def _asked(args: argparse.Namespace) -> OpenSearch:
    from collm_nas import reopen, settings
    from collm_nas.locked import BegunElsewhere

    given = {name: getattr(args, name, None) for name in settings.Settings.__dataclass_fields__}
    chosen = {name: value for name, value in given.items() if value is not None and value != []}
    for name, value in chosen.items():
        if name.startswith("max_") and isinstance(value, tuple):
            raise UserError(f"--{name.replace('_', '-')} takes one number here; begin a run for each cap")
    try:
        return reopen.asking(args.run, args.space, args.start_from, chosen, args.wait)
    except BegunElsewhere:  # by another process, in the time in which this one made ready
        return reopen.asking(args.run, args.space, args.start_from, chosen, args.wait)


def _list_or_forget(loop: OpenSearch, args: argparse.Namespace) -> None:
    if args.pending:
        _print(loop, args.run, loop.pending)
        return
    lost = loop.pending if args.forget == [ALL] else [loop.space.parse(text) for text in dict.fromkeys(args.forget)]
    loop.forget(lost)
    loop.result()
    print(f"collm-nas: gave up on {len(lost)}; {len(loop.pending)} are out", file=sys.stderr)


def _print(loop: OpenSearch, run: Path, archs: Sequence[Architecture]) -> None:
    from collm_nas.evaluators.command import described

    for arch in archs:
        print(json.dumps({"run": str(run), "number": loop.number(arch), **described(loop.space, arch)}))


def _why(loop: OpenSearch) -> str:
    from collm_nas.cli.summary import ENDINGS

    if loop.ended is not None:
        return ENDINGS[loop.ended]
    if loop.room <= 0:
        return f"{len(loop.pending)} are out, and with them the budget is used up; tell them, or raise --budget"
    return f"{len(loop.pending)} are out, and no other architecture is left to evaluate"
