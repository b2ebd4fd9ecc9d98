"""A run that is asked and told from outside, opened by its folder alone: its journal says what it was begun with.

To go on asking, the search is executed again from its start (`asking`). To tell, its optimiser is not needed: the
journal says what it proposed (`telling`), so that a machine that only evaluates needs no model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collm_nas import settings, spaces
from collm_nas.api import Architecture, Candidate, Observation, Problem, UserError
from collm_nas.asktell import OpenSearch
from collm_nas.assemble import NOT_KEPT, Run, costs_of, load_space, prepare
from collm_nas.evaluators import function
from collm_nas.journal import Event, Journal, read
from collm_nas.rundir import JOURNAL, open_journal

TOLD = "tell()"
"""What a header's protocol calls the evaluations of such a run."""


def asking(run: Path, space: Any, start_from: object, given: Mapping[str, Any], wait: float) -> OpenSearch:
    """The run to ask, begun with these options where there is none; an existing one keeps to what it was begun with.

    `given`: options of `Settings`; `space`: a space, its name or path. What is left out (None) of an existing run's is
    as it was. `wait`: seconds to wait for another process. Raises UserError where something is wrong or differs.
    """
    header = _header(run)
    if header is None and space is None:
        raise UserError(f"{run} is no run yet; begin it with --space S, a built-in space or a YAML file")
    recorded = {} if header is None else options_of(header)
    starts = recorded.pop("start_from", None)
    chosen = settings.of({**recorded, **given})
    found = load_space(space) if space is not None or header is None else spaces.from_spec(header["space"])
    values: dict[Architecture, Any] = {}
    evaluator = function.create(found, values.__getitem__, TOLD)
    start_from = starts if start_from is None else start_from
    return OpenSearch(
        # resumed even where nothing is yet: another process may begin it at any moment
        prepare(found, evaluator, chosen, start_from, run, True, time.monotonic(), wait),
        values,
        again=False,
    )


def telling(run: Path, wait: float) -> OpenSearch:
    """The run to tell, or to give up on some of it; it can't be asked. `wait`: seconds to wait for another process.

    Raises UserError where the folder holds no such run.
    """
    header = _header(run)
    if header is None:
        raise UserError(f"{run} holds no {JOURNAL}; name the folder of a run that `collm-nas ask` has begun")
    space = spaces.from_spec(header["space"])
    values: dict[Architecture, Any] = {}
    evaluator = function.create(space, values.__getitem__, TOLD)
    options = options_of(header)
    starts = settings.read_starts(space, options.pop("start_from"))
    journal = open_journal(run, True, time.monotonic(), wait)
    try:
        budgets = [event["budget"] for event in journal.events if event["event"] == "header"]
        chosen = settings.of({**options, "budget": budgets[-1]})
        costs = costs_of(space, evaluator)
        problem = Problem(space, chosen.seed, budgets[0], chosen.caps, costs, chosen.objectives)
        made = Run(
            settings=chosen,
            problem=problem,
            evaluator=evaluator,
            optimizer=Recorded(journal, space),
            journal=journal,
            header={key: value for key, value in header.items() if key not in NOT_KEPT},
            starts=starts,
            init=chosen.first,
            final=budgets[-1],
            out=run,
            pool=[],
        )
        return OpenSearch(made, values, again=False)
    except BaseException:
        journal.close()
        raise


class Recorded:
    """`api.Optimizer` that proposes what the journal says was proposed, and has nothing more to propose."""

    def __init__(self, journal: Journal, space: Any) -> None:
        self._journal, self._space = journal, space

    def ask(self, n: int) -> list[Candidate]:
        """The candidates that come next in the journal, whoever proposed them; random ones of the loop are its own."""
        self._journal.skip("prompt", "completion")
        return [self._candidate(e) for e in self._journal.coming("candidate") if e["proposer"] != "fallback"]

    def _candidate(self, event: Event) -> Candidate:
        arch = None if event["arch"] is None else self._space.parse(event["arch"])
        return Candidate(arch, event["proposer"], event["text"], event["problem"])

    def tell(self, observations: Sequence[Observation]) -> None:
        """The journal has it."""


def options_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `Settings`, and `start_from`, that a run was begun with."""
    kept = dict(header["options"])
    if kept.get("preset") is not None:
        del kept["encoding"]  # a preset has its own
    caps = {f"max_{cost}": limit for cost, limit in kept.pop("caps").items()}
    return {"budget": header["budget"], "seed": header["seed"], **caps, **kept}


def _header(run: Path) -> Event | None:
    """The run's first line; None where there is no run, or one that was not even begun."""
    if not (run / JOURNAL).is_file():
        return None
    events, _ = read(run / JOURNAL)
    if not events:
        return None
    protocol = events[0]["protocol"]
    if protocol.get("function") != TOLD:
        raise UserError(
            f"{run} evaluates by itself ({protocol.get('table') or protocol.get('source')}); it goes on by "
            f"`collm-nas search --out {run} --resume`, not by ask and tell"
        )
    return events[0]
