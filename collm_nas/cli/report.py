"""`collm-nas report RUN`: the report of a run, from its journal alone."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write it (default RUN/report.html)")


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from collm_nas import rundir

    result, events = rundir.load(args.run)
    path = args.out or args.run / rundir.REPORT
    rundir.write_report(result, events, path)
    print(path)
    return 0
