"""The one ask -> check -> evaluate -> tell loop, for the language models and every baseline alike.

It takes over evaluations of earlier runs (proposer `reuse`), then evaluates given starting architectures (`start`),
then random ones (`init`), then asks the optimiser for batches. Everything that happens is recorded in the journal, from
which `collm_nas.result` derives the result; on a resumed journal the same steps run again and take evaluations from it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from collm_nas import events
from collm_nas.api import (
    Architecture,
    Candidate,
    Evaluation,
    Evaluator,
    Failure,
    Observation,
    Optimizer,
    Outcome,
    Problem,
)
from collm_nas.evaluators import attempts, one_line, read_report
from collm_nas.failures import Failures
from collm_nas.journal import Journal, JournaledCosts, evaluation_of
from collm_nas.memory import Memory

PATIENCE = 3
"""Asks in a row without a new candidate, after which random ones fill the batch (proposer `fallback`)."""

Progress = Callable[[int, int, float | None], None]
"""Called after every evaluation with the number of them, the budget and the best feasible fitness so far."""


class Loop:
    """The state of one search between two steps. `run` drives it; `app.open_search` lets the user drive it."""

    def __init__(
        self,
        problem: Problem,
        optimizer: Optimizer,
        journal: Journal,
        *,
        init: int = 10,
        start_from: Sequence[Architecture] = (),
        initial: Sequence[Architecture] | None = None,
        target: float | None = None,
        max_seconds: float | None = None,
        evaluator: Evaluator | None = None,
        progress: Progress | None = None,
        failures: Failures | None = None,
    ) -> None:
        """`initial`: these instead of `init` random ones. `evaluator`: for evaluations, and its costs and report."""
        self.problem, self.space, self.journal = problem, problem.space, journal
        self.budget = problem.budget
        self.best: tuple[Architecture, float] | None = None
        self.evaluated = 0
        self._optimizer, self._evaluator, self._progress = optimizer, evaluator, progress
        self._target, self._max_seconds = target, max_seconds
        self._start = list(start_from)
        self._initial = None if initial is None else list(initial)
        self._init_left = init if initial is None else len(initial)
        self._random = Memory(problem, "init")
        self._visited = self._random.visited
        self._proposed: set[Architecture] = set()
        self._held: list[Observation] = []
        self._proposer: dict[Architecture, Candidate] = {}
        self._reported: tuple[Architecture, dict[str, float]] | None = None
        self.failures = failures or Failures(journal)
        self._waiting: list[Candidate] = []

    # --- ask and check ------------------------------------------------------------------------------------------------

    @property
    def preparing(self) -> bool:
        """Whether starting architectures are still to come."""
        return bool(self._start) or self._init_left > 0

    def propose(self, room: int) -> list[Candidate]:
        """Up to `room` new candidates to evaluate; empty where none is left (or while all given starts are refused).

        What was accepted when failures stopped the search, and what is tried again, comes before all else.
        """
        if self._waiting:
            waiting, self._waiting = self._waiting[:room], self._waiting[room:]
            return waiting
        if self._start:
            given, self._start = self._start[:room], self._start[room:]
            return self._judge([self._own(arch, "start") for arch in given], room)
        if self._init_left > 0:
            return self._judge(self._draw_init(min(room, self._init_left)), room)
        for _ in range(PATIENCE):
            asked = self._optimizer.ask(room)
            if not asked:
                break
            accepted = self._judge(asked, room)
            if accepted:
                return accepted
            self.tell([])
        return self._judge([self._own(arch, "fallback") for arch in self._draw(room)], room)

    def _own(self, arch: Architecture, proposer: str) -> Candidate:
        return Candidate(arch, proposer, self.space.format(arch))

    def _draw_init(self, n: int) -> list[Candidate]:
        self._init_left -= n
        if self._initial is not None:
            given, self._initial = self._initial[:n], self._initial[n:]
            return [self._own(arch, "init") for arch in given]
        drawn = self._draw(n)
        if len(drawn) < n:
            self._init_left = 0
        return [self._own(arch, "init") for arch in drawn]

    def _draw(self, n: int) -> list[Architecture]:
        """Random architectures that may still be evaluated (within caps that reject); fewer where fewer are left."""
        drawn: list[Architecture] = []
        while len(drawn) < n and (arch := self._random.new_random(drawn)) is not None:
            drawn.append(arch)
        return drawn

    def _judge(self, candidates: Sequence[Candidate], room: int) -> list[Candidate]:
        """Record each candidate with its verdict; return those to be evaluated, hold the others for the next tell."""
        accepted: list[Candidate] = []
        for candidate in candidates:
            checked = self._legal(candidate)
            observation = self._refusal(checked, len(accepted) < room)
            self._record_candidate(checked, "evaluated" if observation is None else observation.verdict, room)
            if observation is None and checked.arch is not None:
                accepted.append(checked)
                self._visited.add(checked.arch)
                self._proposer[checked.arch] = checked
            elif observation is not None:
                self._held.append(observation)
        return accepted

    def _legal(self, candidate: Candidate) -> Candidate:
        arch = candidate.arch
        if arch is None or (arch.space == self.space.name and self.space.count(arch.choices) == 1):
            return candidate
        return replace(candidate, arch=None, problem=candidate.problem or "not legal in this space")

    def _refusal(self, candidate: Candidate, room: bool) -> Observation | None:
        arch = candidate.arch
        if arch is None:
            return Observation(candidate, "invalid")
        feasible = self._feasible(arch)
        if arch in self._visited:
            return Observation(candidate, "repeated", feasible=feasible)
        if not feasible and self.problem.caps.over == "reject":
            return Observation(candidate, "over-cap", feasible=False)
        return None if room else Observation(candidate, "surplus", feasible=feasible)

    def _costs(self, arch: Architecture) -> dict[str, float]:
        return dict(self.problem.costs(arch)) if self.problem.costs is not None else {}

    def _feasible(self, arch: Architecture) -> bool:
        costs = self._costs(arch)  # also without caps: what is measured must be so before, not between, evaluations
        return not self.problem.caps.limits or self.problem.caps.allow(costs)

    def _record_candidate(self, candidate: Candidate, verdict: str, room: int) -> None:
        arch = candidate.arch
        native = None if arch is None else self.space.format(arch)
        unique = arch is not None and arch not in self._proposed
        self.journal.record(events.candidate(candidate, native, verdict, unique=unique, room=room))
        if arch is not None:
            self._proposed.add(arch)

    # --- evaluate and tell --------------------------------------------------------------------------------------------

    def measure(self, accepted: Sequence[Candidate]) -> None:
        """Evaluate these in order, until a limit is met, and tell the optimiser."""
        archs = [c.arch for c in accepted if c.arch is not None]
        heard: list[Observation] = []
        with closing(self._outcomes(archs, None if self.best is None else self.best[1])) as outcomes:
            for arch, outcome in zip(archs, outcomes, strict=False):
                heard.append(self.take(arch, outcome))
                if self._target_met() or self._out_of_time():
                    break
                if self.failures.too_many():
                    self._waiting = [*accepted[len(heard) :], *self._waiting]
                    break
        self.tell(heard)

    def _outcomes(self, archs: Sequence[Architecture], best: float | None) -> Generator[Outcome]:
        """What becomes of them, in order, each as soon as it is there: a kill costs at most those under way.

        An evaluator that has `evaluate_each` (`evaluators.parallel`) gets all that are not in the journal at once.
        `best`: the best fitness before this batch (see `evaluators.attempt`), whatever came of its members meanwhile.
        """
        for known in range(len(archs)):
            event = self.journal.recorded("evaluation", "failure")
            if event is None:
                assert self._evaluator is not None
                yield from attempts(self._evaluator, archs[known:], best)
                return
            yield events.outcome_of(event)

    def take(self, arch: Architecture, outcome: Outcome, **extra: Any) -> Observation:
        """Record what became of an accepted candidate; UserError where the first of all meets what all would meet."""
        if isinstance(outcome, Evaluation):
            return self.hear(arch, outcome, **extra)
        if outcome.everywhere and not self.evaluated:
            raise self.failures.at_first(self.space.format(arch), outcome.reason)
        return self.fail(arch, outcome.reason, outcome.seconds, **extra)

    def fail(self, arch: Architecture, reason: str, seconds: float = 0.0, **extra: Any) -> Observation:
        """Record that the evaluation of an accepted candidate failed; it costs no query and is not made again."""
        candidate, native, reason = self._proposer[arch], self.space.format(arch), one_line(reason)
        self.failures.add(arch, native, reason)
        self.journal.record({**events.failure(Failure(reason, seconds), native, candidate.proposer), **extra})
        return Observation(candidate, "failed", feasible=self._feasible(arch))

    def hear(self, arch: Architecture, evaluation: Evaluation, **extra: Any) -> Observation:
        """Record the evaluation of an accepted candidate, whose numbers are finite."""
        self.failures.succeeded(arch)
        candidate, feasible = self._proposer[arch], self._feasible(arch)
        evaluation = replace(evaluation, costs={**evaluation.costs, **self._costs(arch)})
        self.evaluated += 1
        event = events.evaluation(evaluation, self.space.format(arch), self.evaluated, feasible, candidate.proposer)
        self.journal.record({**event, **extra})
        self._compare(arch, float(evaluation.fitness), feasible)
        if self._progress is not None:
            self._progress(self.evaluated, self.budget, None if self.best is None else self.best[1])
        return Observation(candidate, "evaluated", evaluation, feasible)

    def _compare(self, arch: Architecture, fitness: float, feasible: bool) -> None:
        if feasible and (self.best is None or fitness > self.best[1]):
            self.best = (arch, fitness)

    def tell(self, heard: Sequence[Observation]) -> None:
        """Tell the optimiser what was refused since the last time, and what was evaluated."""
        observations, self._held = [*self._held, *heard], []
        if observations:
            self._optimizer.tell(observations)

    def wait_for(self, archs: Sequence[Architecture]) -> None:
        """Tell the optimiser, before it is asked for more, that these are out: accepted, their evaluations to come."""
        candidates = [self._proposer[arch] for arch in archs]
        self.tell(
            [Observation(c, "pending", feasible=self._feasible(a)) for a, c in zip(archs, candidates, strict=True)]
        )

    def forget(self, arch: Architecture) -> None:
        """Record that the evaluation of an accepted candidate will not come; it is not proposed again."""
        self.journal.record({"event": "forget", "arch": self.space.format(arch)})
        self._held.append(Observation(self._proposer[arch], "repeated", feasible=self._feasible(arch)))

    # --- begin and end ------------------------------------------------------------------------------------------------

    def open(self, header: Mapping[str, Any], pool: Sequence[Mapping[str, Any]] = ()) -> int:
        """Record the header of a stretch of the run and return its budget: the recorded one on a resumed journal.

        `pool`: evaluations of earlier runs. Those that this run does not know yet are part of the header (of a resumed
        journal: those recorded there), and the optimiser is told of them; no query is spent on them.
        """
        old = self.journal.recorded("header")
        self.failures.begin()
        self.budget = int((header if old is None else old)["budget"])
        reused = self._reusable(pool) if old is None else old.get("reused", [])
        held = {"reused": reused} if reused else {}
        self.journal.record({"event": "header", **header, "budget": self.budget, **held})
        self._take_over(reused)
        return self.budget

    def unknown(self, pool: Sequence[Mapping[str, Any]]) -> list[tuple[Architecture, Mapping[str, Any]]]:
        """The evaluations of earlier runs whose architectures this run neither evaluated nor took over."""
        read = [(self.space.parse(row["arch"]), row) for row in pool]
        return [(arch, row) for arch, row in read if arch not in self._visited]

    def _reusable(self, pool: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "feasible": self.problem.caps.allow(row["costs"])} for _, row in self.unknown(pool)]

    def _take_over(self, reused: Sequence[Mapping[str, Any]]) -> None:
        heard = []
        for row in reused:
            arch = self.space.parse(row["arch"])
            self._visited.add(arch)
            self._proposed.add(arch)
            if isinstance(self.problem.costs, JournaledCosts):
                self.problem.costs.known[row["arch"]] = row["costs"]
            self._compare(arch, row["fitness"], row["feasible"])
            candidate = Candidate(arch, "reuse", row["arch"])
            heard.append(Observation(candidate, "evaluated", evaluation_of(row), row["feasible"]))
        if heard:
            self.tell(heard)

    def retry(self) -> None:
        """Let what failed be evaluated again, where the journal says that it was, or where that is wanted now."""
        archs = self.failures.again(self.space.format, self._retries)
        self._waiting += [self._proposer[arch] for arch in archs]

    @property
    def _retries(self) -> bool:
        return self.evaluated < self.budget and not self._target_met()

    def finished(self, final: int, pool: Sequence[Mapping[str, Any]]) -> bool:
        """Whether nothing is left to do after this end: budget, earlier runs, failures to be tried again."""
        retries = self.failures.retry and bool(self.failures.reasons) and self._retries
        return not self.journal.replaying and self.budget >= final and not self.unknown(pool) and not retries

    def over(self) -> str | None:
        """Why the search is over: `budget`, `target`, `max-hours`, `failures` or `exhausted`; None while it goes on."""
        if self._target_met():
            return "target"
        if self.evaluated >= self.budget:
            return "budget"
        if self._out_of_time():
            return "max-hours"
        if self.failures.too_many():
            return "failures"
        return "exhausted" if len(self._visited) >= self.space.size and not self._waiting else None

    def _target_met(self) -> bool:
        return self._target is not None and self.best is not None and self.best[1] >= self._target

    def _out_of_time(self) -> bool:
        """Time is up where the journal says that it was; by the clock once recording is live."""
        event = self.journal.ahead()
        if event is not None:
            return bool(event["event"] == "end" and event["reason"] == "max-hours")
        return self._max_seconds is not None and self.journal.elapsed >= self._max_seconds

    def close(self, reason: str) -> None:
        """Record the end, with the report columns of the winner, which are read here and nowhere else."""
        event = self.journal.recorded("end")
        end = self._report(reason) if event is None else events.read_once(event)
        self.journal.record({"event": "end", "reason": reason, **end})
        if self.best is not None and reason != "failures" and "problem" not in end:
            self._reported = (self.best[0], end["report"])

    def _report(self, reason: str) -> dict[str, Any]:
        if self.best is None or self._evaluator is None or reason == "failures":
            return {"report": {}}
        if self._reported is not None and self._reported[0] == self.best[0]:
            return {"report": self._reported[1]}
        return read_report(self._evaluator, self.best[0])


def run(
    problem: Problem,
    optimizer: Optimizer,
    evaluator: Evaluator,
    journal: Journal,
    *,
    init: int = 10,
    batch: int = 5,
    target: float | None = None,
    start_from: Sequence[Architecture] = (),
    max_seconds: float | None = None,
    initial: Sequence[Architecture] | None = None,
    progress: Progress | None = None,
    budget: int | None = None,
    header: Mapping[str, Any] | None = None,
    pool: Sequence[Mapping[str, Any]] = (),
    failures: Failures | None = None,
) -> None:
    """Search until budget, target, time or space is used up; on a resumed journal, from where it stopped. Raises
    UserError where too many evaluations in a row fail (`failures`), after which a resumed search goes on as well.

    `budget`: the budget to reach where it is larger than the one the run was begun with (`problem.budget`): the old
    stretch is executed again as it was, then a new one is opened. `header`: more JSON values for the journal's header.
    `pool`: evaluations of earlier runs (`collm_nas.reuse`) to take over as a stretch begins; what a resumed run finds
    new among them begins one of its own, once all before it is done.
    """
    loop = Loop(
        problem,
        optimizer,
        journal,
        init=init,
        start_from=start_from,
        initial=initial,
        target=target,
        max_seconds=max_seconds,
        evaluator=evaluator,
        progress=progress,
        failures=failures,
    )
    whole = {"seed": problem.seed, "space": problem.space.name, "protocol": evaluator.protocol(), **(header or {})}
    final = problem.budget if budget is None else budget
    first = problem.budget
    while True:
        reached = loop.open({**whole, "budget": first}, pool)
        reason, known = _until_over(loop, batch), journal.replaying
        loop.close(reason)
        if reason == "failures":
            if not known:
                raise loop.failures.stopped()
        elif loop.finished(final, pool):
            return
        first = max(final, reached)


def _until_over(loop: Loop, batch: int) -> str:
    while True:
        loop.retry()
        if (reason := loop.over()) is not None:
            return reason
        preparing = loop.preparing
        left = loop.budget - loop.evaluated
        accepted = loop.propose(left if preparing else min(batch, left))
        if not accepted and not preparing:
            return "exhausted"
        loop.measure(accepted)
