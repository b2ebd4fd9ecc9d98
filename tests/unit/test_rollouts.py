"""Roll-outs: points of the models' own search, and what a strategy brings there."""

from __future__ import annotations

from random import Random

import pytest

from collm_nas import rollouts, strategy
from collm_nas.api import END, Architecture, Completion, Request
from collm_nas.evaluators.landscape import Family, LandscapeEvaluator, draw
from collm_nas.spaces.base import CategoricalSpace

MADE = draw(7, family=Family(variables=(4, 4), choices=(3, 4), conditional=0.0, capped=0.0))


class Model:
    """Legal answers from the request's seed alone; the Generator keeps to the first anchor where that is allowed."""

    def __init__(self, space: CategoricalSpace) -> None:
        self._space = space

    def describe(self) -> dict[str, object]:
        return {"engine": "toy"}

    def generate(self, request: Request) -> list[Completion]:
        rng = Random(f"{request.seed}/{request.prompt}")
        if request.role == "navigator":
            texts = [spelled(self._space, self._space.sample(rng)) for _ in range(request.n)]
        else:
            assert request.mask is not None
            first = request.prompt.split("<a>")[1]
            all_texts = [self._space.format(arch, "compact") for arch in self._space.all()]
            left = [text for text in all_texts if request.mask.count(text + END)]
            texts = sorted(left, key=lambda text: (text != first, rng.random()))[: request.n]
        return [Completion(text, 1, 1, 0.0) for text in texts]


def spelled(space: CategoricalSpace, arch: Architecture) -> str:
    """A strategy around one architecture."""
    directions = tuple(strategy.Direction(c, c, 3) for c in arch.choices)
    return strategy.Strategy((arch,) * strategy.ANCHORS, directions, 0, 3).compact(space)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(MADE.space)


def at(model: Model, *ends: int, landscape: LandscapeEvaluator = MADE) -> list[rollouts.Point]:
    return list(rollouts.points(landscape, model, ends, seed=3))


def test_a_search_stops_where_it_is_told(model: Model) -> None:
    first, second = at(model, 10, 30)
    assert 10 <= len(first.archs) < 15 and 30 <= len(second.archs) < 35
    assert second.archs[: len(first.archs)] == first.archs and len(set(second.archs)) == len(second.archs)
    assert first.navigator.prompt != second.navigator.prompt and first.navigator.role == "navigator"
    assert [(p.archs, p.navigator) for p in at(model, 10, 30)] == [(p.archs, p.navigator) for p in (first, second)]


def test_the_known_value_is_that_of_the_best_as_the_search_sees_it(model: Model) -> None:
    [point] = at(model, 20)
    fitness = {arch: found.fitness for arch, found in zip(point.archs, MADE.evaluate(point.archs), strict=True)}
    assert point.known == MADE.report(max(point.archs, key=fitness.__getitem__))["true"]


def test_a_strategy_brings_what_its_best_candidate_is_worth(model: Model) -> None:
    [point] = at(model, 10)
    assert MADE.best not in point.archs
    wanted = (MADE.optimum - point.known) / (MADE.optimum - MADE.median)
    assert rollouts.outcome(point, model, spelled(MADE.space, MADE.best), 1) == pytest.approx(wanted)
    values = [rollouts.outcome(point, model, spelled(MADE.space, arch), 1) for arch in list(MADE.space.all())[::7]]
    assert rollouts.WORST <= min(values) < max(values) <= wanted + 1e-9


def test_candidates_are_new_whatever_the_search_did_afterwards(model: Model) -> None:
    first, _ = at(model, 10, 40)
    assert first.generator.mask is not None
    visited = [MADE.space.format(arch, "compact") + END for arch in first.archs]
    assert not any(first.generator.mask.count(text) for text in visited)
    assert first.generator.mask.count("") == MADE.space.size - len(first.archs)


def test_a_small_landscape_ends(model: Model) -> None:
    tiny = draw(8, family=Family(variables=(3, 3), choices=(2, 2), conditional=0.0, capped=0.0))
    assert len(at(Model(tiny.space), 5, 40, landscape=tiny)) < 2
