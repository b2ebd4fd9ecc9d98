"""The progress of a search on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


@contextmanager
def bar(budget: int) -> Iterator[Callable[[int, int, float | None], None]]:
    """A function (evaluations, budget, best so far) that shows them while the block runs."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("best so far –", total=budget)

        def show(evaluated: int, budget: int, best: float | None) -> None:
            shown.update(task, completed=evaluated, total=budget, description=f"best so far {_figure(best)}")

        yield show


def _lines() -> Callable[[int, int, float | None], None]:
    last = time.monotonic()

    def show(evaluated: int, budget: int, best: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            print(f"{evaluated} of {budget} evaluations, best so far {_figure(best)}", file=sys.stderr, flush=True)

    return show


def _figure(best: float | None) -> str:
    return "–" if best is None else f"{best:.6g}"
