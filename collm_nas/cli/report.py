"""`collm-nas report RUN [RUN...]`: the report of a run, or the comparison of several, from their journals alone."""

from __future__ import annotations

import argparse
from pathlib import Path

COMPARISON = "comparison.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+", help="the folder of a run; several are compared")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help=f"where to write it (default RUN/report.html; for several {COMPARISON}, in the current folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from collm_nas import rundir

    runs = list(dict.fromkeys(args.run))
    loaded = [(str(run), *rundir.load(run)) for run in runs]
    if len(runs) == 1:
        path = args.out or runs[0] / rundir.REPORT
        rundir.write_report(*loaded[0][1:], path)
    else:
        path = args.out or Path(COMPARISON)
        rundir.write_comparison(loaded, path)
    print(path)
    return 0
