"""The one ask -> check -> evaluate -> tell loop, for the language models and every baseline alike.

It first evaluates given starting architectures (proposer `start`), then random ones (`init`), then asks the optimiser
for batches. Everything that happens is recorded in the journal, from which `collm_nas.result` derives the result; on a
resumed journal the same steps run again and take evaluations from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from collm_nas.api import Architecture, Candidate, Evaluation, Evaluator, Observation, Optimizer, Problem, UserError
from collm_nas.journal import Journal
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

    # --- ask and check ------------------------------------------------------------------------------------------------

    @property
    def preparing(self) -> bool:
        """Whether starting architectures are still to come."""
        return bool(self._start) or self._init_left > 0

    def propose(self, room: int) -> list[Candidate]:
        """Up to `room` new candidates to evaluate; empty where none is left (or while all given starts are refused)."""
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
        return not self.problem.caps.limits or self.problem.caps.allow(self._costs(arch))

    def _record_candidate(self, candidate: Candidate, verdict: str, room: int) -> None:
        arch = candidate.arch
        self.journal.record(
            {
                "event": "candidate",
                "proposer": candidate.proposer,
                "text": candidate.text,
                "arch": None if arch is None else self.space.format(arch),
                "verdict": verdict,
                "problem": candidate.problem,
                "unique": arch is not None and arch not in self._proposed,
                "room": room,
            }
        )
        if arch is not None:
            self._proposed.add(arch)

    # --- evaluate and tell --------------------------------------------------------------------------------------------

    def measure(self, accepted: Sequence[Candidate]) -> None:
        """Evaluate these in order, until a limit is met, and tell the optimiser."""
        archs = [c.arch for c in accepted if c.arch is not None]
        heard = []
        for arch, evaluation in zip(archs, self._evaluations(archs), strict=False):
            heard.append(self.hear(arch, evaluation))
            if self._target_met() or self._out_of_time():
                break
        self.tell(heard)

    def _evaluations(self, archs: Iterable[Architecture]) -> Iterator[Evaluation]:
        """Evaluations in the order of `archs`, each as soon as it is there: a kill costs at most one.

        Workers enter here: whoever evaluates several at once yields them in this order.
        """
        for arch in archs:
            event = self.journal.recorded("evaluation")
            if event is not None:
                yield Evaluation(event["fitness"], event["costs"], event["seconds"], event["source"])
                continue
            assert self._evaluator is not None
            began = time.monotonic()
            evaluation = self._evaluator.evaluate([arch])[0]
            yield evaluation if evaluation.seconds else replace(evaluation, seconds=time.monotonic() - began)

    def hear(self, arch: Architecture, evaluation: Evaluation, **extra: Any) -> Observation:
        """Check and record the evaluation of an accepted candidate; UserError where its fitness is not finite."""
        if not math.isfinite(evaluation.fitness):
            raise UserError(
                f"the fitness of {self.space.format(arch)!r} is {evaluation.fitness}, but must be a finite number; "
                "let the evaluator return a low value for what fails"
            )
        candidate = self._proposer[arch]
        costs = {**evaluation.costs, **self._costs(arch)}
        feasible = self._feasible(arch)
        self.evaluated += 1
        self.journal.record(
            {
                "event": "evaluation",
                "query": self.evaluated,
                "arch": self.space.format(arch),
                "fitness": float(evaluation.fitness),
                "costs": {name: float(value) for name, value in costs.items()},
                "feasible": feasible,
                "seconds": float(evaluation.seconds),
                "source": evaluation.source,
                "proposer": candidate.proposer,
                **extra,
            }
        )
        if feasible and (self.best is None or evaluation.fitness > self.best[1]):
            self.best = (arch, float(evaluation.fitness))
        if self._progress is not None:
            self._progress(self.evaluated, self.budget, None if self.best is None else self.best[1])
        return Observation(candidate, "evaluated", replace(evaluation, costs=costs), feasible)

    def tell(self, heard: Sequence[Observation]) -> None:
        """Tell the optimiser what was refused since the last time, and what was evaluated."""
        observations, self._held = [*self._held, *heard], []
        if observations:
            self._optimizer.tell(observations)

    # --- begin and end ------------------------------------------------------------------------------------------------

    def open(self, header: Mapping[str, Any]) -> int:
        """Record the header of a stretch of the run and return its budget: the recorded one on a resumed journal."""
        old = self.journal.recorded("header")
        self.budget = int(old["budget"]) if old is not None else int(header["budget"])
        self.journal.record({"event": "header", **header, "budget": self.budget})
        return self.budget

    def over(self) -> str | None:
        """Why the search is over: `budget`, `target`, `max-hours` or `exhausted`; None while it goes on."""
        if self._target_met():
            return "target"
        if self.evaluated >= self.budget:
            return "budget"
        if self._out_of_time():
            return "max-hours"
        return "exhausted" if len(self._visited) >= self.space.size else None

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
        report = {} if event is None else event["report"]
        if event is None and self.best is not None and self._evaluator is not None:
            report = self._evaluator.report(self.best[0])
        self.journal.record({"event": "end", "reason": reason, "report": report})


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
) -> None:
    """Search until budget, target, time or space is used up; on a resumed journal, from where it stopped.

    `budget`: the budget to reach where it is larger than the one the run was begun with (`problem.budget`): the old
    stretch is executed again as it was, then a new one is opened. `header`: more JSON values for the journal's header.
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
    )
    whole = {"seed": problem.seed, "space": problem.space.name, "protocol": evaluator.protocol(), **(header or {})}
    final = problem.budget if budget is None else budget
    first = problem.budget
    while True:
        reached = loop.open({**whole, "budget": first})
        reason = _until_over(loop, batch)
        loop.close(reason)
        if not journal.replaying and reached >= final:
            return
        first = final


def _until_over(loop: Loop, batch: int) -> str:
    while (reason := loop.over()) is None:
        preparing = loop.preparing
        left = loop.budget - loop.evaluated
        accepted = loop.propose(left if preparing else min(batch, left))
        if not accepted and not preparing:
            return "exhausted"
        loop.measure(accepted)
    return reason
