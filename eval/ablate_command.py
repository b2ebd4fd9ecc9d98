"""`collm-nas ablate`: one factor at a time around the default search, each question with its answer."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from eval.command import PROBLEM, add_problem, problem_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ablate`."""
    parser.add_argument(
        "--question", action="append", metavar="Q", help="a file of eval/ablations; repeatable (default: all)"
    )
    add_problem(parser)
    how = parser.add_argument_group("protocol")
    how.add_argument("--seeds", type=int, default=10, metavar="N", help="seeds 0..N-1 (default 10)")
    how.add_argument("--budget", type=int, default=100, metavar="N", help="evaluations a search (default 100)")
    how.add_argument("--init", type=int, default=10, metavar="N", help="random ones among them, shared by all cells")
    how.add_argument("--batch", type=int, default=5, metavar="N", help="candidates asked for at once (default 5)")
    how.add_argument(
        "--model", default="embedded", metavar="DIR", help="model folder of every cell (default: embedded)"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="searches at once (default: all cores)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default ablate-PROBLEM; a killed ablation goes on there"
    )


def run(args: argparse.Namespace) -> int:
    """Searches what is missing, prints the answers, writes the tidy tables and `ablate.html`."""
    from rich.console import Console
    from rich.progress import Progress

    from eval import ablate, ablate_page, ablations, bench

    questions = [ablations.load(name) for name in args.question or ablations.names()]
    protocol = bench.Protocol(
        problem=problem_of(args), budget=args.budget, init=args.init, batch=args.batch, seeds=args.seeds
    )
    said = bench.line(protocol.describe())  # before anything is written: a wrong table or column ends here
    folder = args.out or Path(f"ablate-{args.problem or PROBLEM}")
    given: dict[str, Any] = {} if args.model == "embedded" else {"model": args.model}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("searches", total=None)
        found = ablate.run(
            protocol,
            questions,
            folder / "searches.jsonl",
            given,
            args.processes or os.cpu_count() or 1,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    ablate.write(folder, found)
    (folder / "ablate.html").write_text(ablate_page.page(questions, found, said, args.model), encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 160)
    for question in questions:
        said = ablate.answer(ablate.lines(question, found), question.measure)
        console.print(f"[bold]{question.text}[/bold]\n  {said}", soft_wrap=True, highlight=False)
    console.print(f"{folder / 'ablate.html'}, {folder / 'ablate.csv'}, {folder / 'ablate.parquet'}", soft_wrap=True)
    return 0
