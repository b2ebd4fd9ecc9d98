"""`collm-nas replay RUN`: result and report of a run again, from its journal alone."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")


def run(args: argparse.Namespace) -> int:
    """Write `result.json` and `report.html`, and print the outcome."""
    from collm_nas import rundir
    from collm_nas.app import Result
    from collm_nas.cli.summary import show

    show(Result(rundir.write(args.run), args.run))
    return 0
