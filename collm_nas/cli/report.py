"""`collm-nas report RUN [RUN...]`: runs as an HTML page or for another tool, from their journals alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from collm_nas.api import UserError

COMPARISON, HTML = "comparison.html", "html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+", help="the folder of a run; several are compared")
    parser.add_argument(
        "--to",
        metavar="TOOL",
        default=HTML,
        help=f"{HTML} (default): one page; tensorboard: event files; mlflow: a database and files. A run that was put "
        "there before is replaced",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help=f"the page (default RUN/report.html; for several {COMPARISON}, in the current folder), or the folder for "
        "the tool (default its name, in the current folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Write it and print its path."""
    runs = list(dict.fromkeys(args.run))
    for line in [str(_page(runs, args.out))] if args.to == HTML else _to_tool(runs, args.to, args.out):
        print(line)
    return 0


def _page(runs: list[Path], out: Path | None) -> Path:
    from collm_nas import rundir

    loaded = [(str(run), *rundir.load(run)) for run in runs]
    if len(runs) == 1:
        path = out or runs[0] / rundir.REPORT
        rundir.write_report(*loaded[0][1:], path)
    else:
        path = out or Path(COMPARISON)
        rundir.write_comparison(loaded, path)
    return path


def _to_tool(runs: list[Path], name: str, out: Path | None) -> list[str]:
    from collm_nas import rundir
    from collm_nas.cli.summary import protocol
    from collm_nas.stages import stage

    trackers = stage("eval.trackers")
    if name not in trackers.names():
        raise UserError(f"--to {name!r} is unknown; legal: {', '.join([HTML, *trackers.names()])}")
    tool, out = trackers.load(name), out or Path(name)
    records = {record.key: record for record in (rundir.record(run, _called(run), protocol) for run in runs)}
    _check_names([record.name for record in records.values()])
    rundir.check_writable(out)
    lines: list[str] = tool.write(list(records.values()), out)
    return lines


def _called(run: Path) -> str:
    """A run's name for a tool: its folder as seen from the current one, or the last part of that where it is not in it.

    Like this `a/seed-0` and `b/seed-0` stay two.
    """
    whole, here = run.resolve(), Path.cwd()
    return str(whole.relative_to(here)) if here in whole.parents else whole.name


def _check_names(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"two of these runs are called {twice!r}; give them from the folder that holds both, or rename one"
        )
