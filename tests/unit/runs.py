"""A small search to test runs with: a space of 36 points with costs, a fitness, a scripted language model."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from collm_nas import strategy
from collm_nas.api import (
    END,
    Architecture,
    Candidate,
    Caps,
    Completion,
    Engine,
    Observation,
    Optimizer,
    Problem,
    Request,
    UserError,
    Variable,
)
from collm_nas.evaluators import function
from collm_nas.journal import Journal
from collm_nas.optimizers import create
from collm_nas.spaces.base import CategoricalSpace

SPACE = CategoricalSpace(
    "tiny",
    [Variable("a", ("0", "1", "2")), Variable("b", ("0", "1", "2")), Variable("c", ("0", "1", "2", "3"))],
    costs={"flops": {"base": 10, "table": {0: (0, 20, 40), 1: (0, 1, 2)}}},
)


def score(arch: Architecture) -> float:
    """No two alike; the best is `2 1 3`."""
    a, b, c = arch.choices
    return 10.0 * a - 3.0 * (b - 1) ** 2 + 0.7 * c + 0.01 * b


def problem(budget: int = 20, seed: int = 0, caps: Caps | None = None, space: CategoricalSpace = SPACE) -> Problem:
    return Problem(space, seed, budget, caps or Caps(), space.cost)


def evaluator(space: CategoricalSpace = SPACE) -> function.FunctionEvaluator:
    return function.create(space, score, "score")


class Scripted(Optimizer):
    """Proposes what it is given, batch by batch, and keeps what it hears."""

    def __init__(self, *batches: Sequence[Architecture | None]) -> None:
        self.batches = list(batches)
        self.heard: list[list[Observation]] = []

    def ask(self, n: int) -> list[Candidate]:
        batch = self.batches.pop(0) if self.batches else []
        return [Candidate(arch, "model", str(arch)) for arch in batch]

    def tell(self, observations: Sequence[Observation]) -> None:
        self.heard.append(list(observations))


class ScriptedModel(Engine):
    """Answers with random spellings drawn from the request's seed, some of them illegal; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def generate(self, request: Request) -> list[Completion]:
        self.calls += 1
        rng = Random(f"{request.seed}/{request.prompt}")
        if request.role == "navigator" and request.constraint is not None:
            texts = [self._strategy(rng) for _ in range(request.n)]
        elif request.mask is None:
            texts = ["".join(f"{x}{int(rng.random() * 4)}" for x in "abc") for _ in range(request.n)]
        else:
            spelled = [SPACE.format(arch, "compact") for arch in SPACE.all()]
            left = [text for text in spelled if request.mask.count(text + END)]
            texts = rng.sample(left, min(request.n, len(left)))
        return [Completion(text, 3, len(request.prompt), 0.001, rng.random() < 0.9) for text in texts]

    def _strategy(self, rng: Random) -> str:
        anchors = tuple(SPACE.sample(rng) for _ in range(strategy.ANCHORS))
        return strategy.Strategy(anchors, (strategy.Direction(0, 1, 0),) * len(SPACE.variables), 4, 0).compact(SPACE)

    def describe(self) -> dict[str, Any]:
        return {"engine": "scripted", "sources": {"mined": "aa" * 32}}


class Talker(Optimizer):
    """The Coordinator in little: a strategy from one role, candidates from the other, both through the engine."""

    def __init__(self, problem: Problem, engine: Engine) -> None:
        self.engine, self.seed, self.rounds, self.best = engine, problem.seed, 0, 0.0

    def ask(self, n: int) -> list[Candidate]:
        self.rounds += 1
        seed = 1000 * self.seed + self.rounds
        [strategy] = self.engine.generate(Request("navigator", f"best {self.best}", 1, seed, 1.0, 9))
        answers = self.engine.generate(Request("generator", strategy.text, n, seed, 1.0, 9))
        return [self._candidate(answer.text) for answer in answers]

    def _candidate(self, text: str) -> Candidate:
        try:
            return Candidate(SPACE.parse(text, "compact"), "model", text)
        except UserError as error:
            return Candidate(None, "model", text, str(error))

    def tell(self, observations: Sequence[Observation]) -> None:
        for seen in observations:
            if seen.evaluation is not None:
                self.best = max(self.best, seen.evaluation.fitness)


def optimizer(name: str, problem: Problem, journal: Journal, model: Engine | None = None) -> Optimizer:
    """`talker`, with the scripted model behind the journal, or a baseline by name."""
    from collm_nas.journal import JournaledEngine

    if name == "talker":
        return Talker(problem, JournaledEngine(model or ScriptedModel(), journal))
    return create(name, problem)


def timeless(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without what may differ between two runs of one search."""
    return [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in events]
