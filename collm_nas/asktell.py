"""A search whose evaluations are made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from collm_nas import runner
from collm_nas.api import Architecture, Failure, Outcome, UserError
from collm_nas.assemble import Run
from collm_nas.evaluators import attempt
from collm_nas.events import outcome_of
from collm_nas.failures import Failures
from collm_nas.outcome import Result, write


class OpenSearch:
    """A search whose evaluations are made elsewhere: `ask` for architectures, `tell` their values, in any order."""

    def __init__(self, run: Run, values: dict[Architecture, Any]) -> None:
        """Made by `open_search`. A resumed run goes on where it stopped; what was asked and not told is asked again."""
        self._run, self._values = run, values
        self._pending: dict[Architecture, None] = {}
        self._again: list[Architecture] = []
        self._told = 0
        self._closed = False
        self._loop = runner.Loop(
            run.problem,
            run.optimizer,
            run.journal,
            init=run.init,
            start_from=run.starts,
            target=run.settings.target,
            max_seconds=None if run.settings.max_hours is None else run.settings.max_hours * 3600,
            evaluator=run.evaluator,
            failures=Failures(run.journal, run.settings.max_failures),
        )
        self._open(run.problem.budget)
        self._catch_up()
        self._again = list(self._pending)
        failed = self._closed and run.journal.events[-1]["reason"] == "failures"
        if self._closed and (failed or self._loop.budget < run.final or self._loop.unknown(run.pool)):
            self._open(max(run.final, self._loop.budget))

    def _open(self, budget: int) -> None:
        header = {"seed": self._run.problem.seed, **self._run.header, "budget": budget}
        self._loop.open(header, self._run.pool)
        self._closed = False

    def _catch_up(self) -> None:
        """Repeat the asks and tells that the journal holds."""
        journal = self._run.journal
        while (event := journal.ahead()) is not None:
            if event["event"] in ("evaluation", "failure"):
                group = [e for e in journal.events if e.get("told") == event["told"]]
                archs = [self._loop.space.parse(e["arch"]) for e in group]
                self._hear(archs, [outcome_of(e) for e in group])
            elif event["event"] == "end":
                self._close(event["reason"])
            elif event["event"] == "header":
                self._open(event["budget"])
            elif (room := journal.next_room()) is not None:
                self._propose(room)
            else:
                return  # killed while a model was answering: the next ask goes through the same prompts

    def ask(self, n: int | None = None) -> list[Architecture]:
        """Up to `n` (the batch size) architectures to evaluate; empty once budget, target, time or space is used up."""
        n = self._run.settings.batch if n is None else n
        if n < 1:
            raise UserError(f"ask() needs a whole number of at least 1, but got {n!r}")
        if self._again:
            given, self._again = self._again[:n], self._again[n:]
            return given
        room = min(n, self._loop.budget - self._loop.evaluated - len(self._pending))
        reason = self._loop.over()
        archs = self._propose(room) if not self._closed and room > 0 and reason is None else []
        if not archs and not self._pending and not self._closed:
            self._close(reason or "exhausted")
        return archs

    def _propose(self, room: int) -> list[Architecture]:
        while True:
            preparing = self._loop.preparing
            archs = [c.arch for c in self._loop.propose(room) if c.arch is not None]
            if archs or not preparing:
                break
        self._pending |= dict.fromkeys(archs)
        return archs

    def tell(self, archs: Sequence[Architecture | str], values: Sequence[Any]) -> None:
        """The values of architectures that were asked for: numbers, `{"fitness": .., "costs": {..}}` or Evaluations;
        None, NaN or `{"error": "why"}` for one that failed, which takes no query and is not asked for again.

        Raises UserError, with nothing recorded, where one was not asked for, was told already or is no value.
        """
        asked = [one if isinstance(one, Architecture) else self._loop.space.parse(one) for one in archs]
        if len(asked) != len(values):
            raise UserError(f"tell() needs one value an architecture, but got {len(asked)} and {len(values)}")
        for arch in asked:
            if arch not in self._pending or asked.count(arch) > 1:
                raise UserError(
                    f"tell(): {self._loop.space.format(arch)!r} is not one that was asked for and not yet told"
                )
        self._values.update(zip(asked, values, strict=True))
        outcomes = [attempt(self._run.evaluator, arch) for arch in asked]
        for arch, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, Failure) and outcome.everywhere:
                raise UserError(f"{self._loop.space.format(arch)!r}: {outcome.reason}")
        self._again = [arch for arch in self._again if arch not in asked]
        self._hear(asked, outcomes)
        reason = self._loop.over()
        if reason is not None and not self._closed and (not self._pending or reason == "target"):
            self._close(reason)

    def _hear(self, archs: Sequence[Architecture], outcomes: Sequence[Outcome]) -> None:
        pairs = list(zip(archs, outcomes, strict=True))
        heard = [self._loop.take(arch, outcome, told=self._told) for arch, outcome in pairs]
        for arch in archs:
            del self._pending[arch]
        self._told += 1
        self._loop.tell(heard)

    def _close(self, reason: str) -> None:
        self._loop.close(reason)
        self._closed = True

    def result(self) -> Result:
        """The result so far (`ended` is `interrupted` until the search is over), also written to the run folder."""
        return write(self._run)

    def close(self) -> None:
        """Give the run folder back, so that another process can resume it."""
        self._run.journal.close()
