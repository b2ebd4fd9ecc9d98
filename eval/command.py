"""`collm-nas bench`: our search against rivals on one protocol."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from collm_nas.api import DECODING_MODES
from collm_nas.presets import PRESETS
from inference.drafts import DRAFTS

COSTS = ("flops", "params", "latency")
PROBLEM = "digits-cells"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`; those that have a default get it in `eval.plan`, since a protocol may say otherwise."""
    parser.add_argument(
        "--protocol",
        metavar="FILE|NAME",
        help="a YAML file, or the name of a committed one (eval/protocols), that says what the options below would; an "
        "option given beside it wins over the file and is said under the table, one that each of its cases sets is "
        "refused, and a row of its own that --rows names keeps what it says of it",
    )
    add_problem(parser)
    how = parser.add_argument_group("protocol")
    how.add_argument(
        "--rows", metavar="R,R", help="optimisers, as name[:option=value]...; default: collm and all others"
    )
    how.add_argument("--case", action="append", metavar="C", help="only this case of --protocol; repeatable")
    how.add_argument("--seeds", type=int, metavar="N", help="seeds 0..N-1 (default 30)")
    how.add_argument("--budget", type=int, metavar="N", help="evaluations a search (default 100)")
    how.add_argument("--init", type=int, metavar="N", help="random ones among them, shared by all rows (default 10)")
    how.add_argument("--batch", type=int, metavar="N", help="candidates asked for at once (default 5)")
    how.add_argument(
        "--objective", metavar="NAME", action="append", help="fitness and costs to minimise: fronts; repeatable"
    )
    model = parser.add_argument_group("the row collm")
    model.add_argument("--model", metavar="DIR", help="model folder (default: the embedded one)")
    model.add_argument("--preset", choices=tuple(PRESETS), help="paper: an untuned chat model, the paper's own way")
    model.add_argument("--temperature", type=float, metavar="T")
    model.add_argument("--top-p", type=float, metavar="P", help="share of the law that is drawn from (default 1)")
    model.add_argument("--sampling", choices=tuple(DRAFTS), help="default rejection, or the preset's")
    model.add_argument("--decoding", choices=DECODING_MODES, help="default new, or the preset's")
    model.add_argument("--encoding", choices=("compact", "native"))
    model.add_argument("--strategies", type=int, metavar="K", help="a round (default: one a candidate)")
    parser.add_argument("--processes", type=int, metavar="N", help="searches at once (default: all cores)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default bench-PROBLEM or bench-NAME; a killed bench goes on there"
    )


def add_problem(parser: argparse.ArgumentParser) -> None:
    """The options that say what is searched."""
    what = parser.add_argument_group("problem")
    problems = (
        "digits-cells, cifar-stages, landscapes (for claims), validation (others, to choose by), table or supernet"
    )
    what.add_argument("--problem", metavar="P", help=f"{problems} (default {PROBLEM})")
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
    """Runs what is missing, prints a table a case, writes the tidy files, and `table.md` where there is a protocol."""
    from rich.console import Console

    from eval import beside, plan, protocols, stacked, tidy

    study = protocols.load(args.protocol) if args.protocol else None
    made = plan.make(args, study)  # before anything is written: a wrong table or column ends here
    folder = args.out or Path(f"bench-{study.name if study else made.options.problem}")
    console = Console(width=None if sys.stdout.isatty() else stacked.WIDTH)
    measured = _measured(made, folder / "searches.jsonl", args.processes or os.cpu_count() or 1)
    for one in measured:
        console.print(one.table(console.width))
    written = tidy.write(folder, measured)
    if study is not None:
        text = beside.page(study, measured, made.changed)
        (folder / "table.md").write_text(text, encoding="utf-8")
        written.append("table.md")
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    console.print(", ".join(str(folder / name) for name in written), soft_wrap=True)
    return 0


def _measured(made: Any, journal: Path, processes: int) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    from eval import plan

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("searches", total=None)
        return plan.run(made, journal, processes, lambda done, n: bar.update(task, completed=done, total=n))


def problem_of(args: argparse.Namespace) -> Any:
    """The `ProblemSpec` that `add_problem`'s options describe."""
    from eval.problems import PACKAGED, ProblemSpec

    kind = args.problem or PROBLEM
    packaged = kind in PACKAGED
    caps = tuple((cost, limit) for cost in COSTS if (limit := getattr(args, f"max_{cost}")) is not None)
    return ProblemSpec(
        kind=kind,
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
