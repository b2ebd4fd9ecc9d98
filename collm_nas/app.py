"""The composition root for Python: `search` and `open_search`. What is checked here is checked for the shell too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from collm_nas import runner, settings
from collm_nas.api import Architecture, Evaluator, UserError
from collm_nas.asktell import OpenSearch
from collm_nas.assemble import EMBEDDED, Run, load_space, prepare, seen
from collm_nas.failures import Failures
from collm_nas.outcome import Result, write
from collm_nas.settings import Options, Settings

__all__ = ["EMBEDDED", "OpenSearch", "Result", "open_search", "search", "seen"]


def search(
    space: Any,
    evaluator: Evaluator | Callable[[Architecture], Any],
    *,
    start_from: object = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | runner.Progress = False,
    **options: Unpack[Options],
) -> Result:
    """Search `space` for the architecture of highest fitness.

    `space`: a space, or its name or YAML path. `evaluator`: an `api.Evaluator`, or a function of an architecture that
    returns a number, `{"fitness": .., "costs": {..}}` or an `Evaluation`. `start_from`: architectures to evaluate
    first, or a text file of them. `out`: the run folder; None keeps everything in memory. `options`: see `Settings`
    (budget=100, init=10, batch=5, model=None, optimizer="collm", decoding="new", max_flops=None, seed=0, ...).
    `reuse`: folders of earlier runs of the same space and protocol; what was evaluated there is known from the start
    and costs no query. `workers`: evaluations at once (a number, or the address of a Ray cluster); they change no
    result. Several values of one cap: `search_family`.

    An evaluation that fails (by an exception, a fitness that is no finite number, a worker that dies or takes longer
    than `evaluator_timeout` seconds) costs no query and is recorded; the architecture is not evaluated again, but with
    `retry_failed` on a resumed run. Raises UserError (a ValueError) in one sentence for whatever is wrong with the
    arguments, and after `max_failures` failures in a row.
    """
    began = time.monotonic()
    run = prepare(space, evaluator, settings_of(options), start_from, _path(out), resume, began)
    try:
        if progress is True and not run.settings.interactive:  # a bar would write over what the user types
            from collm_nas.progress import bar

            with bar(run.final) as show:
                _run(run, show)
        else:
            _run(run, progress if callable(progress) else None)
    finally:
        run.journal.close()
        result = write(run) if run.journal.events else None
    assert result is not None
    return result


def _run(run: Run, progress: runner.Progress | None) -> None:
    chosen = run.settings
    with at_work(run.evaluator, chosen.workers, start=not run.finished, timeout=chosen.evaluator_timeout) as evaluator:
        runner.run(
            run.problem,
            run.optimizer,
            evaluator,
            run.journal,
            init=run.init,
            batch=chosen.batch,
            target=chosen.target,
            start_from=run.starts,
            max_seconds=None if chosen.max_hours is None else chosen.max_hours * 3600,
            budget=run.final,
            header=run.header,
            progress=progress,
            pool=run.pool,
            failures=Failures(run.journal, chosen.max_failures, chosen.retry_failed),
        )


@contextmanager
def at_work(
    evaluator: Evaluator, workers: int | str, *, start: bool = True, timeout: float | None = None
) -> Iterator[Evaluator]:
    """The evaluator, with several workers where they are asked for, started now or when first needed. A cluster is
    always reached now, so that nothing is made where it cannot be. `timeout`: seconds that a worker has for one."""
    if workers == 1:
        yield evaluator
        return
    from collm_nas.evaluators.parallel import Parallel

    with Parallel(evaluator, workers, timeout) as parallel:
        if start or isinstance(workers, str):
            parallel.start()
        yield parallel


def open_search(
    space: Any,
    *,
    start_from: object = None,
    out: str | Path | None = None,
    resume: bool = False,
    **options: Unpack[Options],
) -> OpenSearch:
    """A search driven by `ask` and `tell`; arguments as for `search`, without an evaluator."""
    from collm_nas.evaluators import function

    chosen = settings_of(options)
    if chosen.workers != 1:
        raise UserError("open_search evaluates nothing, so it has no workers; ask for as many as yours at once")
    if chosen.retry_failed:
        raise UserError("open_search evaluates nothing, so it tries nothing again: retry_failed is for search")
    space = load_space(space)
    values: dict[Architecture, Any] = {}
    evaluator = function.create(space, values.__getitem__, "tell()")
    run = prepare(space, evaluator, chosen, start_from, _path(out), resume, time.monotonic())
    return OpenSearch(run, values)


def settings_of(options: Options) -> Settings:
    """The options, checked; UserError names one that there is not."""
    legal = list(Settings.__dataclass_fields__)
    for name in options:
        if name not in legal:
            raise UserError(
                f"search has no option {name!r}; legal: {', '.join(legal)}, start_from, out, resume, progress"
            )
    return settings.of(options)


def _path(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out).expanduser()
