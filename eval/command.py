"""`collm-nas bench`: our search against rivals on one protocol."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from collm_nas.api import DECODING_MODES
from inference.drafts import DRAFTS

COSTS = ("flops", "params", "latency")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    add_problem(parser)
    how = parser.add_argument_group("protocol")
    how.add_argument(
        "--rows", metavar="R,R", help="optimisers, as name[:option=value]...; default: collm and all others"
    )
    how.add_argument("--seeds", type=int, default=30, metavar="N", help="seeds 0..N-1 (default 30)")
    how.add_argument("--budget", type=int, default=100, metavar="N", help="evaluations a search (default 100)")
    how.add_argument("--init", type=int, default=10, metavar="N", help="random ones among them, shared by all rows")
    how.add_argument("--batch", type=int, default=5, metavar="N", help="candidates asked for at once (default 5)")
    how.add_argument(
        "--objective", metavar="NAME", action="append", help="fitness and costs to minimise: fronts; repeatable"
    )
    model = parser.add_argument_group("the row collm")
    model.add_argument("--model", metavar="DIR", help="model folder (default: the embedded one)")
    model.add_argument("--temperature", type=float, metavar="T")
    model.add_argument("--top-p", type=float, metavar="P", help="share of the law that is drawn from (default 1)")
    model.add_argument("--sampling", choices=tuple(DRAFTS), default="rejection")
    model.add_argument("--decoding", choices=DECODING_MODES, default="new")
    model.add_argument("--encoding", choices=("compact", "native"))
    model.add_argument("--strategies", type=int, metavar="K", help="a round (default: one a candidate)")
    parser.add_argument("--processes", type=int, metavar="N", help="searches at once (default: all cores)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default bench-PROBLEM; a killed bench goes on there")


def add_problem(parser: argparse.ArgumentParser) -> None:
    """The options that say what is searched."""
    what = parser.add_argument_group("problem")
    problems = (
        "digits-cells, cifar-stages, landscapes (for claims), validation (others, to choose by), table or supernet"
    )
    what.add_argument("--problem", default="digits-cells", metavar="P", help=problems)
    what.add_argument("--space", default="", metavar="S", help="of a table, or of landscapes: a name or a YAML file")
    what.add_argument("--table", default="", metavar="F", help="CSV or Parquet of --problem table")
    what.add_argument("--supernet", default="", metavar="F", help="of --problem supernet: folder, file, MODULE:OBJECT")
    what.add_argument("--data", metavar="DIR", help="its images, where the file does not name them")
    what.add_argument("--fitness", metavar="COL", help="column the search sees (packaged tables: valid)")
    what.add_argument(
        "--report", action="append", metavar="COL", help="column read once, for the chosen one; repeatable"
    )
    what.add_argument("--variables", type=int, metavar="N", help="size of every landscape (default: 4 to 12, drawn)")
    what.add_argument(
        "--cap-quantile", type=float, metavar="Q", help="landscapes on a --space: cap at this share by flops"
    )
    what.add_argument("--relabel", action="store_true", help="control: choices in another order for every seed")
    for cost in COSTS:
        what.add_argument(f"--max-{cost}", type=float, metavar="X", help=f"cap on {cost}, for tables and supernets")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing, prints the table, writes `searches.jsonl`, `bench.csv` and `bench.json`."""
    from rich.console import Console

    from eval import bench, fronts, summary

    protocol = _protocol(args)
    rows = _rows(args)
    said = protocol.describe()  # before anything is written: a wrong table or column ends here
    folder = args.out or Path(f"bench-{args.problem}")
    console = Console(width=None if sys.stdout.isatty() else 230)
    records = _searched(args, protocol, rows, folder / "searches.jsonl", Console(stderr=True))
    told: Any = fronts if len(protocol.objective) > 1 else summary
    lines = told.summarise(records, protocol.budget)
    console.print(told.table(lines, bench.line(said)))
    told.write(folder, records, lines, bench.settings(protocol, rows))
    console.print(f"{folder / 'bench.csv'}, {folder / 'bench.json'}", soft_wrap=True)
    return 0


def _protocol(args: argparse.Namespace) -> Any:
    from collm_nas import objectives
    from eval.bench import Protocol

    return Protocol(
        problem=problem_of(args),
        budget=args.budget,
        init=args.init,
        batch=args.batch,
        seeds=args.seeds,
        objective=objectives.read(args.objective or objectives.FITNESS),
    )


def problem_of(args: argparse.Namespace) -> Any:
    """The `ProblemSpec` that `add_problem`'s options describe."""
    from eval.problems import PACKAGED, ProblemSpec

    packaged = args.problem in PACKAGED
    caps = tuple((cost, limit) for cost in COSTS if (limit := getattr(args, f"max_{cost}")) is not None)
    return ProblemSpec(
        kind=args.problem,
        space=args.space,
        table=args.table,
        supernet=args.supernet,
        data=args.data,
        fitness=args.fitness or ("valid" if packaged else None),
        report=tuple(args.report or (("test",) if packaged else ())),
        variables=args.variables,
        cap_quantile=args.cap_quantile,
        relabel=args.relabel,
        limits=caps,
    )


def _rows(args: argparse.Namespace) -> list[Any]:
    from eval.rows import MODEL_OPTIONS, default_rows, left_out, parse_row

    if not args.rows and (said := left_out()):
        print(said, file=sys.stderr)
    chosen = {name: getattr(args, name, None) for name in MODEL_OPTIONS}  # some are for --rows alone
    return [parse_row(text, chosen) for text in (args.rows.split(",") if args.rows else default_rows())]


def _searched(args: argparse.Namespace, protocol: Any, rows: list[Any], journal: Path, console: Any) -> Any:
    from rich.progress import Progress

    from eval import bench

    processes = args.processes or os.cpu_count() or 1
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{len(rows)} rows, {protocol.seeds} seeds", total=len(rows) * protocol.seeds)
        return bench.run(protocol, rows, journal, processes, lambda done, _: bar.update(task, completed=done))
