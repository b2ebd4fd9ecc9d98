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
    """A search whose evaluations are made elsewhere: `ask` for architectures, `tell` their values, in any order.

    What is asked while others are still out is never one of them, and the optimiser knows that they are. The same asks
    and tells in the same order give the same search.
    """

    def __init__(self, run: Run, values: dict[Architecture, Any], again: bool = True) -> None:
        """Made by `open_search`. A resumed run goes on where it stopped; what was asked and not told is asked again,
        unless `again` is False: then it stays `pending`."""
        self._run, self._values = run, values
        self._numbers: dict[Architecture, int] = {}
        self._pending: dict[Architecture, None] = {}
        self._forgotten: set[Architecture] = set()
        self._told: dict[Architecture, Outcome] = {}
        self._again: list[Architecture] = []
        self._groups = 0
        self._ended: str | None = None
        self._broken = False
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
        self._again = list(self._pending) if again else []
        more = self._loop.budget < run.final or bool(self._loop.unknown(run.pool))
        if self.ended == "failures" or (self.ended and more):
            self._open(max(run.final, self._loop.budget))

    def _open(self, budget: int) -> None:
        header = {"seed": self._run.problem.seed, **self._run.header, "budget": budget}
        self._loop.open(header, self._run.pool)
        self._ended = None

    def _catch_up(self) -> None:
        """Repeat the asks and tells that the journal holds."""
        journal = self._run.journal
        while (event := journal.ahead()) is not None:
            if event["event"] in ("evaluation", "failure"):
                group = [e for e in journal.coming("evaluation", "failure") if e["told"] == event["told"]]
                archs = [self._loop.space.parse(e["arch"]) for e in group]
                self._hear(archs, [outcome_of(e) for e in group])
            elif event["event"] == "forget":
                self._forget(self._loop.space.parse(event["arch"]))
            elif event["event"] == "end":
                self._close(event["reason"])
            elif event["event"] == "header":
                self._open(event["budget"])
            else:
                journal.recorded("ask")
                self._propose(event["room"])

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Any:
        """What is searched (`api.SearchSpace`)."""
        return self._loop.space

    @property
    def pending(self) -> list[Architecture]:
        """What was asked for and is neither told nor given up, in the order it was asked for."""
        return list(self._pending)

    @property
    def forgotten(self) -> frozenset[Architecture]:
        """What was given up; its value may still be told where the budget has room."""
        return frozenset(self._forgotten)

    @property
    def ended(self) -> str | None:
        """Why the search is over, as `Result.ended`; None while it is open."""
        return self._ended

    @property
    def room(self) -> int:
        """How many evaluations the budget has left beside those that are out."""
        return self._loop.budget - self._loop.evaluated - len(self._pending)

    def number(self, arch: Architecture) -> int:
        """The place of an architecture among all that were asked for, from 1 on."""
        return self._numbers[arch]

    def told(self, arch: Architecture) -> Outcome | None:
        """What was told of an architecture, if anything was."""
        return self._told.get(arch)

    # --- ask ----------------------------------------------------------------------------------------------------------

    def ask(self, n: int | None = None) -> list[Architecture]:
        """Up to `n` (the batch size) architectures to evaluate; empty once budget, target, time or space is used up, by
        what is out too."""
        n = self._run.settings.batch if n is None else n
        if n < 1:
            raise UserError(f"ask() needs a whole number of at least 1, but got {n!r}")
        if self._again:
            given, self._again = self._again[:n], self._again[n:]
            return given
        self._check()
        room, reason = min(n, self.room), self._loop.over()
        archs = self._propose(room) if self._ended is None and room > 0 and reason is None else []
        if not archs and not self._pending and self._ended is None:
            self._close(reason or "exhausted")
        return archs

    def _propose(self, room: int) -> list[Architecture]:
        self._broken = True  # where it is interrupted, the optimiser is ahead of the journal
        with self._run.journal.together({"event": "ask", "room": room}):
            if self._pending:
                self._loop.wait_for(self.pending)
            while True:
                preparing = self._loop.preparing
                archs = [c.arch for c in self._loop.propose(room) if c.arch is not None]
                if archs or not preparing:
                    break
        self._broken = False
        self._pending |= dict.fromkeys(archs)
        self._numbers |= {arch: len(self._numbers) + i for i, arch in enumerate(archs, start=1)}
        return archs

    def _check(self) -> None:
        if self._broken:
            raise UserError("ask() was interrupted, so this search can't go on; open its run again with resume=True")

    # --- tell ---------------------------------------------------------------------------------------------------------

    def tell(self, archs: Sequence[Architecture | str], values: Sequence[Any]) -> None:
        """The values of architectures that were asked for: numbers, `{"fitness": .., "costs": {..}}` or Evaluations;
        None, NaN or `{"error": "why"}` for one that failed, which takes no query and is not asked for again.

        One that was given up counts again, where the budget has room. Raises UserError, with nothing recorded, where
        one was not asked for, was told already or is no value.
        """
        self._check()
        asked = [one if isinstance(one, Architecture) else self._loop.space.parse(one) for one in archs]
        if len(asked) != len(values):
            raise UserError(f"tell() needs one value an architecture, but got {len(asked)} and {len(values)}")
        for arch in asked:
            if arch not in {*self._pending, *self._forgotten} or asked.count(arch) > 1:
                raise UserError(
                    f"tell(): {self._loop.space.format(arch)!r} is not one that was asked for and not yet told"
                )
        if len(self._forgotten.intersection(asked)) > self.room:
            raise UserError("tell(): what was given up has no room in the budget any more; raise --budget")
        self._values.update(zip(asked, values, strict=True))
        outcomes = [attempt(self._run.evaluator, arch) for arch in asked]
        for arch, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, Failure) and outcome.everywhere:
                raise UserError(f"{self._loop.space.format(arch)!r}: {outcome.reason}")
        self._hear(asked, outcomes)
        self._again = [arch for arch in self._again if arch not in asked]
        self._end()

    def _hear(self, archs: Sequence[Architecture], outcomes: Sequence[Outcome]) -> None:
        pairs = list(zip(archs, outcomes, strict=True))
        heard = [self._loop.take(arch, outcome, told=self._groups) for arch, outcome in pairs]
        for arch in archs:
            self._pending.pop(arch, None)
            self._forgotten.discard(arch)
        self._told |= {arch: seen.evaluation or outcome for (arch, outcome), seen in zip(pairs, heard, strict=True)}
        self._groups += 1
        self._loop.tell(heard)

    def forget(self, archs: Sequence[Architecture]) -> None:
        """Give up on the values of these pending ones: their places in the budget are free again.

        They are not asked for again. Raises UserError, with nothing recorded, where one is not out.
        """
        self._check()
        for arch in archs:
            if arch not in self._pending:
                raise UserError(f"{self._loop.space.format(arch)!r} is not out, so it can't be given up")
        for arch in archs:
            self._forget(arch)
        self._end()

    def _forget(self, arch: Architecture) -> None:
        self._loop.forget(arch)
        self._pending.pop(arch)
        self._forgotten.add(arch)
        self._again = [other for other in self._again if other != arch]

    def _end(self) -> None:
        reason = self._loop.over()
        if reason is not None and self._ended is None and (not self._pending or reason == "target"):
            self._close(reason)

    def _close(self, reason: str) -> None:
        self._loop.close(reason)
        self._ended = reason

    def result(self) -> Result:
        """The result so far (`ended` is `open` until the search is over), also written to the run folder."""
        return write(self._run)

    def close(self) -> None:
        """Give the run folder back, so that another process can resume it."""
        self._run.journal.close()
