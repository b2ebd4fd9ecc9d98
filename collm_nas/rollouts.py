"""What a strategy brings, found out by following it: the yardstick of hindsight preferences and of reinforcement.

The models search a landscape whose values are known. Where that search is stopped there is a *point*: what the
Navigator is asked there. Each strategy it may answer is *rolled out*: the Generator makes a batch from it, as in the
search, and the batch is valued without noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from collm_nas import coordinator, prompts
from collm_nas.allowed import Allowed
from collm_nas.api import Architecture, Candidate, Completion, Encoding, Engine, Observation, Problem, Request, TextMask
from collm_nas.evaluators.landscape import LandscapeEvaluator
from collm_nas.strategy import Strategy

BATCH, START = 5, 10
"""Candidates of a round, and random points before the first."""
WORST = -1.0
"""Least outcome: a batch as far below the best known point as a random point is below the optimum."""


@dataclass(frozen=True, slots=True)
class Point:
    """A search that was stopped: the landscape, what was evaluated, and what both models are asked there."""

    landscape: LandscapeEvaluator
    archs: tuple[Architecture, ...]
    navigator: Request
    """As the search asked it; take other `n` and `seed`."""
    generator: Request
    """For a batch of new architectures from one strategy, whose prompt and a seed are to be filled in."""
    known: float
    """Value, without noise, of the best point as the search sees it."""


def points(landscape: LandscapeEvaluator, engine: Engine, ends: Sequence[int], seed: int) -> Iterator[Point]:
    """The models' own search on a landscape, stopped after (at least) these numbers of evaluations, ascending; fewer
    points where the landscape has no more architectures."""
    asked = _Recorder(engine)
    encoding = engine.describe().get("encoding", "compact")
    problem = Problem(landscape.space, seed, ends[-1] + BATCH, landscape.caps, landscape.costs)
    search = coordinator.create(problem, asked, encoding=encoding)
    starts = landscape.landscape.random_points(START, np.random.default_rng([seed, 4]))
    batch = list(dict.fromkeys(Architecture(landscape.space.name, tuple(row)) for row in starts.tolist()))
    batch = [arch for arch in batch if landscape.caps.allow(landscape.costs(arch))]
    archs: list[Architecture] = []
    values: list[float] = []
    left = list(ends)
    while batch:
        found = landscape.evaluate(batch)
        search.tell([Observation(Candidate(a, "model"), "evaluated", e) for a, e in zip(batch, found, strict=True)])
        archs += batch
        values += [one.fitness for one in found]
        batch = [candidate.arch for candidate in search.ask(BATCH) if candidate.arch is not None]
        if batch and len(archs) >= left[0]:
            best = archs[max(range(len(values)), key=values.__getitem__)]
            generator = replace(asked.last["generator"], n=BATCH, mask=_new(problem, encoding, archs))
            yield Point(landscape, tuple(archs), asked.last["navigator"], generator, landscape.report(best)["true"])
            left = [end for end in left if end > len(archs)]
            if not left:
                return


def _new(problem: Problem, encoding: Encoding, visited: Sequence[Architecture]) -> TextMask | None:
    """What is allowed where these were visited, and stays so while the search goes on."""
    allowed = Allowed(problem, "new", encoding)
    for arch in visited:
        allowed.exclude(arch)
    allowed.any_left(BATCH)
    return allowed.mask


class _Recorder:
    """An engine that keeps the last request to each role."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.last: dict[str, Request] = {}

    def describe(self) -> dict[str, Any]:
        return self._engine.describe()

    def generate(self, request: Request) -> list[Completion]:
        self.last[request.role] = request
        return self._engine.generate(request)


def outcome(point: Point, engine: Engine, strategy: str, seed: int) -> float:
    """What the Generator's batch from a strategy brings over the best known point, without noise, in units of the way
    from a random point to the optimum; at least `WORST`."""
    space, made = point.landscape.space, point.landscape
    prompt = prompts.generator_prompt(space, Strategy.parse(strategy, space))
    encoding = engine.describe().get("encoding", "compact")
    answers = engine.generate(replace(point.generator, prompt=prompt, seed=seed))
    archs = [space.parse(answer.text, encoding) for answer in answers]
    best = max(made.report(arch)["true"] for arch in archs)
    return max(WORST, (best - point.known) / (made.optimum - made.median))


def mean_outcome(point: Point, engine: Engine, strategy: str, seed: int, batches: int) -> float:
    """The mean outcome of so many batches, of this seed and the next ones."""
    return sum(outcome(point, engine, strategy, seed + i) for i in range(batches)) / batches
