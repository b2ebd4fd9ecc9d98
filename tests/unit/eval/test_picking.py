"""LM-Searcher's protocol: ten random new ones for each candidate, and the model picks."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from collm_nas import runner, spaces
from collm_nas.api import Caps, Completion, Problem, Request, UserError
from collm_nas.evaluators import table
from collm_nas.journal import Journal, JournaledEngine
from collm_nas.prompts import ANCHOR_TOKEN
from collm_nas.result import derive
from collm_nas.spaces.base import CategoricalSpace
from eval import likelihood, paper_variants, picking, variants
from tests.inference.small import build_model, load_model
from tests.unit.runs import SPACE as TINY
from tests.unit.runs import evaluator, timeless

SPACE = spaces.load("digits-cells")
EVALUATOR = table.load(SPACE, "digits-cells", fitness="valid")


class Law:
    """An engine with a law: an architecture is the likelier the more of its choices are the favourite's."""

    def __init__(self, space: CategoricalSpace, favourite: tuple[int, ...]) -> None:
        self.space, self.favourite = space, favourite
        self.asked: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"encoding": "compact"}

    def worth(self, text: str) -> int:
        arch = self.space.parse(text.removeprefix(ANCHOR_TOKEN), "compact")
        return sum(a == b for a, b in zip(arch.choices, self.favourite, strict=True))

    def generate(self, request: Request) -> list[Completion]:
        """What the end costs would turn the order round."""
        assert request.constraint is not None and request.mask is not None and request.role == "navigator"
        texts = [part.strip("()") for part in request.constraint.text.split("|")]
        assert len(texts) == request.n == request.mask.count("") and request.prompt.endswith("<nav>")
        self.asked.append(texts)
        found = []
        for text in texts:
            removed = 1 - math.exp(self.worth(text) - 20)
            logp = -5.0 * self.worth(text) - 40
            found.append(Completion(text, 4, 10, 0.0, logp=logp, logp_masked=-1.0, removed=(removed, 1.0)))
        return found


def search(engine: Law, problem: Problem, init: int = 10, batch: int = 5) -> tuple[dict[str, Any], list[Any]]:
    journal = Journal(None)
    found = variants.create(picking.NAME, problem, JournaledEngine(engine, journal))
    runner.run(problem, found, evaluator() if problem.space is TINY else EVALUATOR, journal, init=init, batch=batch)
    return derive(journal.events), journal.events


def test_the_likeliest_of_ten_is_picked_and_none_is_offered_twice_in_a_batch() -> None:
    engine = Law(SPACE, SPACE.sample(random.Random(5)).choices)
    result, events = search(engine, Problem(SPACE, 0, 40))
    picked = [SPACE.format(SPACE.parse(row["arch"]), "compact") for row in result["history"]]
    assert [row["proposer"] for row in result["history"]] == ["init"] * 10 + ["model"] * 30
    assert [len(offer) for offer in engine.asked] == [10] * 30, "one call for each candidate, with its ten"
    for i, (offer, pick) in enumerate(zip(engine.asked, picked[10:], strict=True)):
        assert ANCHOR_TOKEN + pick in offer and engine.worth(pick) == max(map(engine.worth, offer))
        assert not {text.removeprefix(ANCHOR_TOKEN) for text in offer} & set(picked[: 10 + i // 5 * 5]), "all are new"
    for at in range(0, 30, 5):
        offered = [text for offer in engine.asked[at : at + 5] for text in offer]
        assert len(set(offered)) == 50
    mean = sum(map(engine.worth, picked[10:])) / 30
    assert mean > sum(map(engine.worth, picked[:10])) / 10 + 0.8
    told = [event["texts"] for event in events if event["event"] == "completion"]
    assert told == engine.asked and result["tokens"]["completion"] == 30 * 10 * 4, "journaled and counted"


def test_a_space_is_searched_to_its_end_by_offers_that_shrink() -> None:
    favourite = next(TINY.all())
    engine = Law(TINY, favourite.choices)
    result, _ = search(engine, Problem(TINY, 3, 10 * TINY.size), init=2)
    archs = [row["arch"] for row in result["history"]]
    assert len(archs) == len(set(archs)) == TINY.size and result["ended"] == "exhausted"
    assert len(engine.asked[-1]) == 1 and max(map(len, engine.asked)) == 10
    assert {row["proposer"] for row in result["history"][2:]} == {"model"}
    with_it = [ANCHOR_TOKEN + TINY.format(favourite, "compact") in offer for offer in engine.asked]
    assert sum(with_it) == 1 and archs[2 + with_it.index(True)] == TINY.format(favourite), "known, offered, picked"


def test_equal_seeds_are_offered_the_same_and_others_are_not() -> None:
    offered = []
    for seed in (0, 0, 1):
        engine = Law(SPACE, next(SPACE.all()).choices)
        _, events = search(engine, Problem(SPACE, seed, 20))
        offered.append((engine.asked, timeless(events)))
    assert offered[0] == offered[1] and offered[0][0] != offered[2][0]


def test_what_is_over_a_cap_that_rejects_is_never_offered() -> None:
    costs = sorted(SPACE.cost(arch)["params"] for arch in SPACE.all())
    limit = costs[len(costs) // 4]
    engine = Law(SPACE, next(SPACE.all()).choices)
    result, events = search(engine, Problem(SPACE, 0, 25, Caps({"params": limit}), SPACE.cost))
    offered = [SPACE.parse(text.removeprefix(ANCHOR_TOKEN), "compact") for offer in engine.asked for text in offer]
    assert len(offered) == 150 and max(SPACE.cost(arch)["params"] for arch in offered) <= limit
    asked = [event["prompt"] for event in events if event["event"] == "prompt"]
    assert result["counts"]["evaluated"] == 25 and all("<cap>" in prompt for prompt in asked)


def test_an_engine_that_tells_no_likelihood_is_refused() -> None:
    engine = Law(SPACE, next(SPACE.all()).choices)
    engine.generate = lambda request: [Completion("a0", 1, 1, 0.0)] * request.n  # type: ignore[method-assign]
    with pytest.raises(UserError, match="does not say how likely an answer is"):
        search(engine, Problem(SPACE, 0, 20))


# --- the law of a real model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


def test_an_opening_is_as_likely_as_the_model_says(folder: Path) -> None:
    """Against one forward pass a text: neither the end nor what is offered beside counts."""
    import torch

    engine, rng = load_model(folder), random.Random(1)
    texts = [ANCHOR_TOKEN + SPACE.format(SPACE.sample(rng), "compact") for _ in range(12)]
    texts = list(dict.fromkeys(texts))
    prompt = "<digest><best><past><nav>"
    found = likelihood.logps(engine, "navigator", prompt, texts, 0, opening=True)
    head = engine.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    engine.model.set_adapter("navigator")
    for text, logp in zip(texts, found, strict=True):
        tail = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits_LV = engine.model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].double()
        laws_LV = torch.log_softmax(logits_LV.masked_fill(~engine.vocabulary.speakable, -torch.inf), -1)
        assert logp == pytest.approx(float(laws_LV[range(len(tail)), tail].sum()), abs=1e-4)
    alone = likelihood.logps(engine, "navigator", prompt, texts[:1], 7, opening=True)
    assert alone[0] == pytest.approx(found[0], abs=1e-4)
    whole = likelihood.logps(engine, "navigator", prompt, texts, 0)
    assert all(w < f for w, f in zip(whole, found, strict=True)), "with its end it is less likely"


@pytest.mark.parametrize("sampling", ["rejection", "reweighted"])
def test_the_row_is_searched_whatever_the_sampling_and_is_counted(folder: Path, sampling: str) -> None:
    from eval import bench
    from eval.problems import ProblemSpec
    from eval.rows import parse_row

    protocol = bench.Protocol(problem=ProblemSpec(kind="digits-cells", fitness="valid"), budget=9, init=5, batch=2)
    row = parse_row(f"collm:variant=pick-of-10:sampling={sampling}", {"model": str(folder)})
    record = bench.search(bench.Job(protocol, row, 0))
    assert record["by_proposer"] == {"init": 5, "model": 4, "fallback": 0}
    assert record["tokens"]["completion"] > 4 * 10 * 4
    assert record["counts"]["attempted"] == record["counts"]["evaluated"] == 9


# --- in words ---------------------------------------------------------------------------------------------------------


class Words:
    """A chat model that answers with a number."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[Request] = []
        self._answers = answers

    def describe(self) -> dict[str, Any]:
        return {"encoding": "native", "sources": {}}

    def generate(self, request: Request) -> list[Completion]:
        self.asked.append(request)
        return [Completion(self._answers[(len(self.asked) - 1) % len(self._answers)], 1, 1, 0.0)]


def test_a_chat_model_answers_with_a_number() -> None:
    engine, journal = Words("4", "none of them", "10. it is the best of 10"), Journal(None)
    problem = Problem(SPACE, 0, 12)
    found = paper_variants.create(picking.NAME, problem, engine, decoding="new")
    runner.run(problem, found, EVALUATOR, journal, init=4, batch=3)
    result = derive(journal.events)
    evaluated, asked = [row["arch"] for row in result["history"]], engine.asked
    assert [len(request.history) for request in asked[:3]] == [1, 3, 5], "one chat"
    assert all(arch in asked[0].prompt for arch in evaluated[:4]) and "Results" not in asked[1].prompt
    assert evaluated[4:6] == [_line(asked[0], 4), _line(asked[2], 10)], "the second answer names none"
    assert result["counts"]["evaluated"] == 12 and result["counts"]["valid"] < result["counts"]["attempted"]
    assert {row["proposer"] for row in result["history"][4:]} == {"model"}


def _line(request: Request, number: int) -> str:
    return next(line for line in request.prompt.splitlines() if line.startswith(f"{number}. ")).partition(". ")[2]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("3", 2),
        ("**10**", 9),
        ("7. nor_conv_3x3~0|", 6),
        ("Of the 10, number 4.", 3),
        ("11", None),
        ("0", None),
        ("?", None),
    ],
)
def test_a_number_is_read_from_words(text: str, place: int | None) -> None:
    assert picking.read_number(text, 10) == place


def test_a_chat_that_picks_has_its_own_words() -> None:
    with pytest.raises(UserError, match="variant pick-of-10 asks in words of its own, so that prompts mean nothing"):
        paper_variants.create(picking.NAME, Problem(SPACE, 0, 12), Words("1"), prompts=Path())
