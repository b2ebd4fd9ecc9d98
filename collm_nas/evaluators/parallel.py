"""Several evaluations at once, by Ray: the same results in the same order, whatever the number of workers.

Each worker is a process with a copy of the evaluator, sent to it once. A worker that dies (out of memory, its machine
lost) is replaced, and what it was at work on is done again by another; a cluster that is gone is waited for. At most
`workers` evaluations are under way or wait for their turn, so that a kill costs no more than these.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from collm_nas.api import Architecture, Evaluation, EvaluationError, Evaluator, Failure, Outcome, UserError
from collm_nas.evaluators import _ray, attempt, explained, one_line

TRIES = 4
"""Workers that one architecture (or the evaluator, while it is loaded) may bring down before it is given up."""


PATIENCE, PAUSE = 600.0, 5.0
"""Seconds that a cluster which is gone is waited for, and between two looks for it."""


class _Worker:
    """What runs in a worker's process."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def ready(self) -> None:
        """Answers once the evaluator is there."""

    def evaluate(self, arch: Architecture, best: float | None) -> Outcome:
        """The evaluation, or why there is none."""
        return attempt(self._evaluator, arch, best)

    def report(self, arch: Architecture) -> Any:
        """The columns that are read once, or the UserError (which Ray would wrap into a traceback)."""
        try:
            return self._evaluator.report(arch)
        except UserError as error:
            return error


@dataclass(frozen=True)
class _Job:
    """What a worker is at: `turn` in the order of answers, None while it starts; `ends`: when its time is up."""

    worker: Any
    turn: int | None
    ends: float | None = None


@dataclass(frozen=True)
class _Death:
    """What brought a worker down."""

    error: Exception

    def __str__(self) -> str:
        """How Ray calls the end of a process ("system error", "node out of memory"), else what it says last."""
        said = str(self.error).strip()
        kind = re.search(r"[Ww]orker exit type: (\w+)", said)
        return kind[1].lower().replace("_", " ") if kind else said.splitlines()[-1] if said else repr(self.error)


@dataclass
class _Work:
    """Architectures on their way: turns that wait for a worker, answers that wait for their turn."""

    method: str
    archs: Sequence[Architecture]
    more: tuple[Any, ...]

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.archs)))
        self.answers: dict[int, Any] = {}
        self._deaths: Counter[int] = Counter()

    def take(self, turn: int | None, answer: Any) -> None:
        """Keep an answer; what brought a worker down waits again, a few times."""
        if turn is None:
            return
        if not isinstance(answer, _Death):
            failed = isinstance(answer, Exception) and self.method == "evaluate"
            self.answers[turn] = Failure(one_line(explained(answer))) if failed else answer
            return
        self._deaths[turn] += 1
        if self._deaths[turn] < TRIES:
            self.waiting.appendleft(turn)
        else:
            reason = (
                f"it brought down {TRIES} workers, one after the other ({answer}); see with --workers 1 what is wrong, "
                "or use fewer if memory is short"
            )
            self.answers[turn] = Failure(one_line(reason)) if self.method == "evaluate" else UserError(reason)


class Parallel:
    """An `api.Evaluator` around another one that has several workers evaluate at once; close it, or use `with`."""

    def __init__(self, evaluator: Evaluator, workers: int | str, timeout: float | None = None) -> None:
        """`workers`: how many, here; or `ray://HOST:PORT` (or `HOST:PORT` on one of its nodes) of a running cluster.
        `timeout`: seconds after which an evaluation is given up and its worker ended.

        Nothing is started before the first evaluation, or `start`. Raises UserError where Ray is missing.
        """
        _ray.require(workers)
        self._inner, self._workers, self._timeout = evaluator, workers, timeout
        if hasattr(evaluator, "space"):
            self.space = evaluator.space
        self._cluster: _ray.Cluster | None = None
        self._shipped: Any = None  # the evaluator in the cluster's store, from which every worker loads it
        self._idle: list[Any] = []
        self._busy: dict[Any, _Job] = {}
        self._failed_starts = 0

    def __enter__(self) -> Parallel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- api.Evaluator ------------------------------------------------------------------------------------------------

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """One evaluation an architecture, in order; EvaluationError where one fails."""
        return [_evaluation(outcome) for outcome in self.evaluate_each(archs)]

    def evaluate_each(self, archs: Sequence[Architecture], best: float | None = None) -> Iterator[Outcome]:
        """What becomes of each, as soon as it and all before it are there. Whoever stops early gives up what is under
        way.

        `best`: told to an evaluator that is `bounded` (see `evaluators.attempt`); the same for all of them.
        """
        return self._in_order("evaluate", archs, best)

    def costs(self, arch: Architecture) -> dict[str, float]:
        """Those of the evaluator."""
        return self._inner.costs(arch)

    def report(self, arch: Architecture) -> dict[str, float]:
        """Read by a worker: this machine may lack the device that it needs."""
        report: dict[str, float] = next(self._in_order("report", [arch]))
        return report

    def protocol(self) -> dict[str, Any]:
        """That of the evaluator: the number of workers changes no result."""
        return self._inner.protocol()

    # --- workers ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start or reach the cluster and send the evaluator to it, once; UserError where that fails."""
        if self._cluster is None:
            self._cluster = _ray.start(self._workers)
            try:
                self._shipped = self._cluster.ray.put(self._inner)
            except (TypeError, AttributeError, ValueError) as error:  # what pickling raises
                self.close()
                why = str(error.__cause__ or error).strip().splitlines()[0]
                raise UserError(
                    f"--workers {self._workers}: the evaluator cannot be sent to workers ({why}); let it be pickled, "
                    "or leave --workers out"
                ) from error

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        cluster, self._cluster, self._shipped = self._cluster, None, None
        workers = [*self._idle, *(job.worker for job in self._busy.values())]
        self._idle, self._busy = [], {}
        if cluster is not None:
            for worker in workers:  # at once, for the next one's sake, where the cluster lives on
                with suppress(*_ray.lost(cluster.ray), ValueError):  # a client that is cut off knows no actors any more
                    cluster.ray.kill(worker)
            cluster.close()

    @property
    def _live(self) -> _ray.Cluster:
        assert self._cluster is not None
        return self._cluster

    def _in_order(self, method: str, archs: Sequence[Architecture], *more: Any) -> Iterator[Any]:
        """What `method` of a worker says of each; an error is raised when its turn has come, so that all before it are
        kept."""
        self.start()
        work = _Work(method, archs, more)
        try:
            for turn in range(len(archs)):
                while turn not in work.answers:
                    try:
                        self._hand_out(work, turn)
                        work.take(*self._next_answer())
                    except _ray.lost(self._live.ray) as error:
                        self._find_again(work, error)
                answer = work.answers.pop(turn)
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            self._give_up()

    def _hand_out(self, work: _Work, turn: int) -> None:
        """Work for idle workers; workers for work that is left."""
        waiting, limit = work.waiting, self._live.limit
        while self._idle and waiting and waiting[0] < turn + limit:
            worker, next_turn = self._idle.pop(), waiting.popleft()
            ends = time.monotonic() + self._timeout if self._timeout and work.method == "evaluate" else None
            ref = getattr(worker, work.method).remote(work.archs[next_turn], *work.more)
            self._busy[ref] = _Job(worker, next_turn, ends)
        starting = sum(job.turn is None for job in self._busy.values())
        for _ in range(min(len(waiting) - starting, limit - len(self._busy) - len(self._idle))):
            worker = self._live.ray.remote(_Worker).options(**self._live.options).remote(self._shipped)
            self._busy[worker.ready.remote()] = _Job(worker, None)

    def _next_answer(self) -> tuple[int | None, Any]:
        """Wait for a worker: its turn and its answer; None and nothing where it has started, and is idle now."""
        ends = min((job.ends for job in self._busy.values() if job.ends is not None), default=None)
        left = None if ends is None else max(0.0, ends - time.monotonic())
        ready, _ = self._live.ray.wait(list(self._busy), num_returns=1, timeout=left)
        if not ready:
            return self._overdue()
        [ref] = ready
        job, answer = self._busy.pop(ref), self._answer(ref)
        if not isinstance(answer, _Death):
            self._idle.append(job.worker)
        elif job.turn is not None:
            logging.getLogger("collm_nas").warning("a worker died; what it was at is done again (%s)", answer)
        if job.turn is None:
            self._check_start(answer)
        return job.turn, answer

    def _find_again(self, work: _Work, error: Exception) -> None:
        """The cluster is gone: wait until it is back (one of this machine is started anew); what was under way is done
        again. UserError where that takes too long."""
        text = "the Ray cluster is gone (%s); it is waited for, and what was under way is done again"
        logging.getLogger("collm_nas").warning(text, _ray.first_line(error))
        work.waiting.extendleft(sorted((j.turn for j in self._busy.values() if j.turn is not None), reverse=True))
        gone: tuple[type[Exception], ...] = (UserError, *_ray.lost(self._live.ray))
        deadline = time.monotonic() + PATIENCE
        while True:
            self._idle, self._busy, self._failed_starts = [], {}, 0  # of handles that lead nowhere
            self.close()
            try:
                self.start()
                return
            except gone as still:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"--workers {self._workers}: the Ray cluster is gone, and not back after {PATIENCE / 60:g} "
                        f"minutes ({_ray.first_line(still)}); start it, then go on with --resume"
                    ) from still
            time.sleep(PAUSE)

    def _overdue(self) -> tuple[int | None, Any]:
        """End a worker whose time is up: its turn has failed."""
        for ref, job in self._busy.items():
            if job.ends is not None and job.ends <= time.monotonic():
                assert self._timeout is not None
                self._live.ray.kill(job.worker)
                del self._busy[ref]
                text = f"it took longer than {self._timeout:g} s (--evaluator-timeout), and its worker was ended"
                return job.turn, Failure(text, self._timeout)
        return None, None

    def _answer(self, ref: Any) -> Any:
        try:
            return self._live.ray.get(ref)
        except self._live.ray.exceptions.RayTaskError as error:  # what it answered cannot be sent
            return error.cause
        except self._live.ray.exceptions.RayError as error:
            return _Death(error)

    def _check_start(self, answer: Any) -> None:
        self._failed_starts = self._failed_starts + 1 if isinstance(answer, _Death) else 0
        if self._failed_starts == TRIES:
            raise UserError(
                f"--workers {self._workers}: the evaluator does not load in a worker ({answer}); what it imports must "
                "be installed there"
            )

    def _give_up(self) -> None:
        """End the workers that are still at work: nobody will ask for what they bring."""
        for ref, job in list(self._busy.items()):
            if job.turn is not None:
                self._live.ray.kill(job.worker)
                del self._busy[ref]


def _evaluation(outcome: Outcome) -> Evaluation:
    if isinstance(outcome, Failure):
        raise EvaluationError(outcome.reason, everywhere=outcome.everywhere)
    return outcome
