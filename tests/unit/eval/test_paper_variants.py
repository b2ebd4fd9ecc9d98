"""The paper's search with another memory, one model, or a temperature a role."""

from __future__ import annotations

from typing import Any

import pytest

from collm_nas import runner, spaces
from collm_nas.api import Problem, UserError
from collm_nas.evaluators import table
from collm_nas.journal import Journal
from eval import model_row, paper_variants
from eval.rows import parse_row
from tests.unit.test_paper import Scripted, ten

SPACE = spaces.load("digits-cells")
EVALUATOR = table.load(SPACE, "digits-cells", fitness="valid")


def searched(variant: str, **options: Any) -> Scripted:
    """An engine after a search of three rounds."""
    engine = Scripted(ten)
    problem = Problem(SPACE, 0, 30)
    found = paper_variants.create(variant, problem, engine, **options)
    runner.run(problem, found, EVALUATOR, Journal(None), init=0, batch=20)
    return engine


@pytest.mark.parametrize(
    ("variant", "navigator", "generator"),
    [
        ("no-past", [1, 1, 1], [1, 1, 1]),
        ("stateful-generator", [1, 3, 5], [1, 3, 5]),
        ("forgetful-navigator", [1, 1, 1], [1, 3, 5]),
    ],
)
def test_who_remembers(variant: str, navigator: list[int], generator: list[int]) -> None:
    """Turns before each message: the system's, and two of every earlier round that stays."""
    engine = searched(variant)
    assert [len(request.history) for request in engine.of("navigator")] == navigator
    assert [len(request.history) for request in engine.of("generator")] == generator
    if variant != "no-past":
        last = engine.of("generator")[-1].history
        assert last[2][1] == ten(1) and "strategy 1" in last[1][1]
    assert "Results of the last round" in engine.of("navigator")[-1].prompt


def test_one_model_reads_the_results_and_writes_architectures() -> None:
    engine = searched("one-model")
    assert not engine.of("navigator")
    asked = engine.of("generator")
    assert [len(request.history) for request in asked] == [1, 3, 5]
    assert "Results" not in asked[0].prompt and "Results of the last round" in asked[1].prompt
    assert ten(1).splitlines()[0].split("`")[1] in asked[1].prompt, "what it wrote comes back with its fitness"
    with pytest.raises(UserError, match="one-model writes many architectures at once"):
        searched("one-model", decoding="new")
    with pytest.raises(UserError, match="'navigator-for-both' is not one of the preset paper; legal there: no-past"):
        searched("navigator-for-both")


def test_each_role_has_its_temperature() -> None:
    engine = Scripted(ten)
    options = {"navigator_temperature": 0.2, "generator_temperature": 1.2, "decoding": "free"}
    problem = Problem(SPACE, 0, 10)
    asked = model_row.by_temperature(engine, options)
    assert options == {"decoding": "free"}
    found = paper_variants.create("no-past", problem, asked, **options)
    runner.run(problem, found, EVALUATOR, Journal(None), init=0, batch=20)
    assert {(request.role, request.temperature) for request in engine.asked} == {("navigator", 0.2), ("generator", 1.2)}
    with pytest.raises(UserError, match="generator_temperature must be a number of at least 0, but is 'hot'"):
        model_row.by_temperature(engine, {"generator_temperature": "hot"})
    assert model_row.by_temperature(engine, {}) is engine


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("collm:preset=papr", "preset 'papr' of 'collm:preset=papr' is unknown; legal: paper"),
        ("collm:preset=paper:strategies=1", "strategies is for tuned models"),
        ("collm:preset=paper:variant=navigator-for-both", "no variant 'navigator-for-both' with the preset paper"),
        ("collm:variant=one-model", "no variant 'one-model' of a tuned model; legal there: best-points"),
    ],
)
def test_what_does_not_go_together_ends_before_the_searches(row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_row.check(parse_row(row))
