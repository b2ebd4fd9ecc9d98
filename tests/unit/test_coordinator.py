from __future__ import annotations

import random
from typing import Any

import pytest

from collm_nas import coordinator, prompts, spaces
from collm_nas.api import (
    Candidate,
    Caps,
    Completion,
    DecodingMode,
    Encoding,
    Evaluation,
    Observation,
    Problem,
    Request,
    UserError,
    Variable,
)
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Direction, Strategy

COSTS = {"flops": {"base": 0.0, "table": {0: [0.0, 1.0], 1: [0.0, 1.0, 2.0]}}}
SPACE = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))], costs=COSTS)
PLAN = Strategy(tuple(SPACE.make(c) for c in ((0, 0), (0, 1), (1, 2))), (Direction(0, 1, 2), Direction(2, 1, 0)), 3, 1)


class Script:
    """An engine that writes the given strategies (few, however many are asked for) and, whatever it is asked, the given
    candidates in turn."""

    def __init__(self, strategy: str | list[str], candidates: list[str]) -> None:
        self.strategies = [strategy] if isinstance(strategy, str) else strategy
        self.candidates = candidates
        self.requests: list[Request] = []

    def generate(self, request: Request) -> list[Completion]:
        self.requests.append(request)
        if request.role == "navigator":
            return [Completion(text, 1, 1, 0.0) for text in self.strategies[: request.n]]
        texts = [self.candidates.pop(0) for _ in range(min(request.n, len(self.candidates)))]
        return [Completion(text, 1, 1, 0.0) for text in texts]

    def describe(self) -> dict[str, Any]:
        return {}


def _ask(script: Script, n: int, decoding: DecodingMode = "legal", **problem: Any) -> list[Candidate]:
    asked = coordinator.create(Problem(SPACE, 0, 10, **problem), script, decoding=decoding)
    return asked.ask(n)


def test_the_history_ranks_all_and_keeps_the_latest() -> None:
    archs = [SPACE.make(choices) for choices in ((0, 0), (0, 1), (0, 2), (1, 0))]
    history = coordinator.History(archs, [2.0, 3.0, 1.0, 3.0], [True, True, True, False])
    assert history.best(3) == [archs[3], archs[1], archs[0]] and len(history.best(9)) == 4
    assert history.last(2) == coordinator.History(archs[2:], [1.0, 3.0], [True, False])
    assert history.last(9) == history


def test_the_generator_sees_the_strategy_and_nothing_else() -> None:
    script = Script(PLAN.compact(SPACE), ["a0b0"])
    asked = coordinator.create(Problem(SPACE, 0, 10), script)
    tried = SPACE.make((1, 1))
    asked.tell([Observation(Candidate(tried, "init"), "evaluated", Evaluation(12.5))])
    asked.ask(1)
    navigator, generator = script.requests
    assert "a1b1<g0>" in navigator.prompt
    assert generator.prompt == PLAN.compact(SPACE) + "<gen>"
    assert "a1b1" not in generator.prompt


@pytest.mark.parametrize(
    ("decoding", "kinds", "masked"),
    [
        ("free", (None, None), False),
        ("json", (None, "json"), False),
        ("legal", ("regex", "regex"), False),
        ("new", ("regex", "regex"), True),
    ],
)
def test_each_mode_adds_its_guarantee(
    decoding: DecodingMode, kinds: tuple[str | None, str | None], masked: bool
) -> None:
    script = Script(PLAN.compact(SPACE), ["a0b0"])
    _ask(script, 1, decoding)
    navigator, generator = script.requests
    assert tuple(r.constraint and r.constraint.kind for r in (navigator, generator)) == kinds
    assert (generator.mask is not None) == masked
    assert navigator.mask is None


def test_what_was_emitted_in_vain_is_returned_and_asked_for_again() -> None:
    script = Script(PLAN.compact(SPACE), ["junk", "a0b0", "a0b0", "a1b2"])
    candidates = _ask(script, 2, "free")
    assert [c.arch and c.arch.choices for c in candidates] == [None, (0, 0), (0, 0), (1, 2)]
    assert candidates[0].problem


def test_a_model_that_keeps_repeating_itself_is_given_up_after_a_few_calls() -> None:
    script = Script(PLAN.compact(SPACE), ["a0b0"] * 100)
    candidates = _ask(script, 2)
    assert len(candidates) < 10
    assert len(script.requests) == 1 + coordinator.GENERATOR_CALLS


def test_over_cap_candidates_do_not_count_as_new_where_they_are_rejected() -> None:
    caps = Caps({"flops": 1.0})
    script = Script(PLAN.compact(SPACE), ["a1b2", "a0b1"])
    candidates = _ask(script, 1, caps=caps, costs=SPACE.cost)
    assert [c.arch and c.arch.choices for c in candidates] == [(1, 2), (0, 1)]
    script = Script(PLAN.compact(SPACE), ["a1b2", "a0b1"])
    assert len(_ask(script, 1, caps=Caps({"flops": 1.0}, "evaluate"), costs=SPACE.cost)) == 1


def test_an_unreadable_strategy_does_not_end_the_search() -> None:
    script = Script("I think we should widen the network.", ["a0b0"])
    candidates = _ask(script, 1, "free")
    assert candidates[0].arch == SPACE.make((0, 0))
    assert script.requests[1].prompt.endswith("<gen>")


def test_the_navigator_is_told_what_its_strategies_brought() -> None:
    script = Script(PLAN.compact(SPACE), ["a0b0", "a1b2"])
    asked = coordinator.create(Problem(SPACE, 0, 10), script)
    first = asked.ask(1)
    asked.tell([Observation(first[0], "evaluated", Evaluation(1.0))])
    second = asked.ask(1)
    asked.tell([Observation(second[0], "evaluated", Evaluation(5.0))])
    asked.ask(1)
    last = [r for r in script.requests if r.role == "navigator"][-1]
    past = last.prompt.partition("<past>")[2]
    assert past.count("<roam3>") == 2
    assert past.rpartition("<gain")[2][0] != "0"


def test_nothing_is_asked_of_the_models_once_the_space_is_used_up() -> None:
    script = Script(PLAN.compact(SPACE), [])
    asked = coordinator.create(Problem(SPACE, 0, 10), script)
    seen = [Observation(Candidate(a, "init"), "evaluated", Evaluation(0.0)) for a in SPACE.all()]
    asked.tell(seen)
    assert asked.ask(5) == []
    assert not script.requests


def test_the_digest_is_the_text_that_prompts_makes() -> None:
    script = Script(PLAN.compact(SPACE), ["a0b0"])
    asked = coordinator.create(Problem(SPACE, 0, 10), script)
    rng = random.Random(0)
    archs = list(dict.fromkeys(SPACE.sample(rng) for _ in range(4)))
    values = [rng.random() for _ in archs]
    pairs = zip(archs, values, strict=True)
    asked.tell([Observation(Candidate(a, "init"), "evaluated", Evaluation(v)) for a, v in pairs])
    asked.ask(1)
    expected = prompts.digest(SPACE, archs, values, feasible=[True] * len(archs))
    assert script.requests[0].prompt == expected


OTHER = Strategy(PLAN.anchors[::-1], PLAN.directions, 5, 2)


def _prompts(script: Script, role: str) -> list[tuple[str, int]]:
    return [(r.prompt.removesuffix("<gen>"), r.n) for r in script.requests if r.role == role]


def test_each_candidate_has_a_strategy_of_its_own() -> None:
    script = Script([PLAN.compact(SPACE), OTHER.compact(SPACE), PLAN.compact(SPACE)], ["a0b0", "a0b1", "a1b2"])
    candidates = _ask(script, 3)
    assert [c.arch and c.arch.choices for c in candidates] == [(0, 0), (0, 1), (1, 2)]
    assert [n for _, n in _prompts(script, "navigator")] == [3]
    assert _prompts(script, "generator") == [(PLAN.compact(SPACE), 2), (OTHER.compact(SPACE), 1)]


def test_the_papers_way_makes_all_candidates_of_a_round_from_one_strategy() -> None:
    script = Script([PLAN.compact(SPACE), OTHER.compact(SPACE)], ["a0b0", "a0b1", "a1b2"])
    coordinator.create(Problem(SPACE, 0, 10), script, strategies=1).ask(3)
    assert [n for _, n in _prompts(script, "navigator")] == [1]
    assert _prompts(script, "generator") == [(PLAN.compact(SPACE), 3)]


def test_a_round_is_remembered_by_the_strategy_of_its_best_candidate() -> None:
    script = Script([PLAN.compact(SPACE), OTHER.compact(SPACE)], ["a0b0", "a1b2", "a0b1", "a0b2"])
    asked = coordinator.create(Problem(SPACE, 0, 10), script)
    told = [Observation(c, "evaluated", Evaluation(v)) for c, v in zip(asked.ask(2), (1.0, 2.0), strict=True)]
    asked.tell(told)
    asked.ask(2)
    past = [r for r in script.requests if r.role == "navigator"][-1].prompt.partition("<past>")[2]
    assert past.startswith(SPACE.format(OTHER.anchors[0], "compact") + "<roam5>")


@pytest.mark.parametrize("wrong", [0, -1, "two"])
def test_a_wrong_number_of_strategies_is_named(wrong: Any) -> None:
    with pytest.raises(UserError, match=f"strategies {wrong!r} must be"):
        coordinator.create(Problem(SPACE, 0, 10), Script(PLAN.compact(SPACE), []), strategies=wrong)


CAPPED = Problem(SPACE, 0, 10, Caps({"flops": 1.0}), SPACE.cost)


@pytest.mark.parametrize(
    ("decoding", "problem", "counts"),
    [
        ("legal", CAPPED, None),
        ("affordable", CAPPED, (3, False)),
        ("affordable", Problem(SPACE, 0, 10), None),
        ("affordable", Problem(SPACE, 0, 10, Caps({"flops": 1.0}, "evaluate"), SPACE.cost), None),
        ("new", CAPPED, (3, True)),
        ("new", Problem(SPACE, 0, 10, Caps({"flops": 1.0}, "evaluate"), SPACE.cost), (6, True)),
        ("new", Problem(SPACE, 0, 10), (6, True)),
    ],
)
def test_caps_that_reject_are_held_by_the_mask(
    decoding: DecodingMode, problem: Problem, counts: tuple[int, bool] | None
) -> None:
    """`counts`: how many architectures the mask has, and whether one that was visited is missing next time."""
    script = Script(PLAN.compact(SPACE), ["a0b0", "a0b0"])
    asked = coordinator.create(problem, script, decoding=decoding)
    asked.tell([Observation(Candidate(SPACE.make((0, 0)), "init"), "evaluated", Evaluation(1.0))])
    asked.ask(1)
    mask = script.requests[1].mask
    if counts is None:
        assert mask is None
        return
    size, distinct = counts
    assert mask is not None and bool(mask.count("a0b0\0")) != distinct
    texts = [SPACE.format(arch, "compact") + "\0" for arch in SPACE.all()]
    assert sum(mask.count(text) > 0 for text in texts) == size - distinct
    assert (mask.count("") > 100) != distinct  # rows may repeat, or not


@pytest.mark.parametrize("decoding", ["legal", "affordable", "new"])
def test_nothing_is_asked_once_all_that_is_affordable_was_visited(decoding: DecodingMode) -> None:
    script = Script(PLAN.compact(SPACE), [])
    asked = coordinator.create(CAPPED, script, decoding=decoding)
    cheap = [arch for arch in SPACE.all() if SPACE.cost(arch)["flops"] <= 1.0]
    asked.tell([Observation(Candidate(a, "init"), "evaluated", Evaluation(0.0)) for a in cheap])
    assert asked.ask(5) == []
    assert not script.requests


def test_a_tables_own_costs_hold_in_the_mask_and_measured_ones_do_not() -> None:
    space = CategoricalSpace("s", SPACE.variables)
    caps = Caps({"flops": 1.0, "latency": 5.0})
    script = Script(PLAN.compact(SPACE), ["a0b0"])
    costs = lambda arch: {**SPACE.cost(arch), "latency": 9.0}  # noqa: E731
    candidates = coordinator.create(Problem(space, 0, 10, caps, costs), script).ask(1)
    assert [c.arch and c.arch.choices for c in candidates] == [(0, 0)]  # over the latency: the runner drops it
    mask = script.requests[1].mask
    assert mask is not None and mask.count("a0b1\0") and not mask.count("a1b2\0")


@pytest.mark.parametrize("encoding", ["compact", "native"])
def test_a_native_form_that_looks_like_json_is_read(encoding: Encoding) -> None:
    """Once every native answer in OFA's space was taken for the `json` mode's object, and none was valid."""
    space = spaces.load("ofa-mbv3")
    arch = space.sample(random.Random(0))
    plan = prompts.empty_strategy(space, [arch] * 3)
    script = Script(plan.compact(space), [space.format(arch, encoding)])
    asked = coordinator.create(Problem(space, 0, 10), script, encoding=encoding)
    assert [candidate.arch for candidate in asked.ask(1)] == [arch]
