"""The paper's own algorithm: what each model is told, what counts as an attempt, prompts of the user's own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collm_nas import paper, paper_answers, search, spaces
from collm_nas.api import Caps, Completion, Evaluation, Observation, Problem, Request, UserError
from collm_nas.spaces.base import CategoricalSpace

SPACE = spaces.load("digits-cells")
LINES = [SPACE.format(arch) for arch in random.Random(0).sample(list(SPACE.all()), 40)]


class Scripted:
    """An engine that says what it is told to, and remembers what it was asked."""

    def __init__(self, generator: Callable[[int], str]) -> None:
        self.asked: list[Request] = []
        self._generator = generator

    def generate(self, request: Request) -> list[Completion]:
        self.asked.append(request)
        calls = sum(r.role == request.role for r in self.asked)
        text = f"## Summary\nstrategy {calls}" if request.role == "navigator" else self._generator(calls)
        return [Completion(text, 1, 1, 0.0)] * request.n

    def describe(self) -> dict[str, Any]:
        return {"engine": "scripted", "encoding": "native", "sources": {}}

    def of(self, role: str) -> list[Request]:
        return [request for request in self.asked if request.role == role]


def ten(call: int) -> str:
    return "\n".join(f"{i}. `{line}`" for i, line in enumerate(LINES[10 * (call - 1) : 10 * call], start=1))


def valued(arch: Any) -> float:
    return float(-SPACE.cost(arch)["params"])


@pytest.fixture
def engine() -> Scripted:
    return Scripted(ten)


def run(engine: Scripted, **options: Any) -> Any:
    return search(SPACE, valued, preset="paper", model=engine, **{"budget": 20, "seed": 3, **options})


def test_a_round_is_a_strategy_and_ten_or_more_architectures(engine: Scripted) -> None:
    result = run(engine)
    assert result["counts"] == {"attempted": 20, "valid": 20, "unique": 20, "evaluated": 20}
    assert [r.role for r in engine.asked] == ["navigator", "generator"] * 2
    assert {row["proposer"] for row in result["history"]} == {"model"}, "the first strategy comes before any data"
    assert all(r.temperature == 0.6 and r.constraint is None and r.mask is None for r in engine.asked)


def test_the_navigator_is_a_chat_that_grows_and_hears_each_round_once(engine: Scripted) -> None:
    run(engine)
    first, second = engine.of("navigator")
    assert [who for who, _ in first.history] == ["system"] and "Nothing has been evaluated" in first.prompt
    assert [who for who, _ in second.history] == ["system", "user", "assistant"]
    assert second.history[1:] == (("user", first.prompt), ("assistant", "## Summary\nstrategy 1"))
    assert all(line in second.prompt for line in LINES[:10])
    assert not any(line in second.prompt for line in LINES[10:])
    best = max(LINES[:10], key=lambda line: valued(SPACE.parse(line)))
    assert f"Best so far: {best} : fitness" in second.prompt


def test_the_generator_sees_the_last_strategy_alone(engine: Scripted) -> None:
    run(engine)
    for number, request in enumerate(engine.of("generator"), start=1):
        assert [who for who, _ in request.history] == ["system"]
        assert f"strategy {number}" in request.prompt and "10 to 20" in request.prompt
        assert "fitness -" not in request.prompt, "no result reaches it"


def test_repeated_and_illegal_ones_are_counted_and_neither_model_hears_of_them() -> None:
    engine = Scripted(lambda call: f"{ten(1)}\n11. k9 nothing | avg")
    result = run(engine, budget=12)
    assert result["counts_by_proposer"]["model"]["attempted"] > 20
    told = [r.prompt for r in engine.of("navigator")]
    assert not any("k9" in prompt or "repeat" in prompt or "illegal" in prompt for prompt in told)
    assert "no new architecture could be evaluated" in told[2]


def test_over_cap_ones_are_evaluated_told_and_never_best(engine: Scripted) -> None:
    costs = sorted(SPACE.cost(SPACE.parse(line))["params"] for line in LINES[:10])
    result = run(engine, max_params=costs[4])
    over = [row for row in result["history"] if not row["feasible"]]
    assert over and result["best"]["costs"]["params"] <= costs[4]
    prompt = engine.of("navigator")[1].prompt
    assert "(over the cap)" in prompt and f"at most {costs[4]:,.6g} params" in prompt


def test_the_target_is_told_and_ends_the_search(engine: Scripted) -> None:
    target = max(valued(SPACE.parse(line)) for line in LINES[:10])
    result = run(engine, target=target)
    assert result.ended == "target" and f"a fitness above {target:g}" in engine.asked[0].history[0][1]


def test_knowledge_names_variables_conditions_and_one_random_example_but_no_benchmark(engine: Scripted) -> None:
    run(engine)
    text = engine.asked[0].history[0][1]
    assert all(variable.name in text for variable in SPACE.variables)
    assert SPACE.name not in text and "nasbench" not in text.lower()
    assert sum(SPACE.format(arch) in text for arch in SPACE.all()) == 1
    other = Scripted(ten)
    run(other, seed=4)
    assert other.asked[0].history[0][1] != text


@pytest.mark.parametrize("decoding", ["legal", "affordable", "new"])
def test_under_a_grammar_each_answer_is_one_architecture(decoding: str) -> None:
    engine = Scripted(lambda call: LINES[call])
    run(engine, decoding=decoding, budget=3, over_cap="reject", max_params=1e6, batch=2)
    request = engine.of("generator")[0]
    assert request.n == 2 and request.constraint is not None and request.constraint.kind == "regex"
    assert "Write one architecture." in request.prompt
    assert (request.mask is None) == (decoding == "legal")


def test_json_asks_for_a_list() -> None:
    engine = Scripted(lambda call: json.dumps(LINES[:12]))
    result = run(engine, decoding="json", budget=12)
    assert result["counts"]["valid"] == result["counts"]["attempted"] == 12
    constraint = engine.of("generator")[0].constraint
    assert constraint is not None and json.loads(constraint.text)["maxItems"] == 20


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = run(Scripted(ten), out=tmp_path / "whole")
    run(Scripted(ten), budget=10, out=tmp_path / "run")
    engine = Scripted(lambda call: ten(call + 1))
    resumed = run(engine, budget=20, out=tmp_path / "run", resume=True)
    assert resumed["history"] == whole["history"] and len(engine.of("generator")) == 1


# --- reading answers --------------------------------------------------------------------------------------------------

A, B = LINES[3], LINES[7]
ANSWERS = {
    "lines": (f"{A}\n{B}", [A, B]),
    "list in a fence with talk": (f"Here they are:\n```text\n1. {A}\n2) {B}\n```\nGood luck!", [A, B]),
    "bullets, bold and comments": (f"- **{A}** (small)\n* `{B}`, larger", [A, B]),
    "quoted list": (json.dumps([A, B]), [A, B]),
    "an item that is none": (f"1. {A}\n2. something else", [A, None]),
    "a line that names choices": (f"{A}\nk3 pool3 and avg", [A, None]),
    "talk alone": ("I cannot do that.", [None]),
    "nothing": ("", [None]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_counts_as_an_attempt(name: str) -> None:
    text, expected = ANSWERS[name]
    found = paper_answers.read(SPACE, text)
    assert [None if c.arch is None else SPACE.format(c.arch) for c in found] == expected
    assert all(c.problem for c in found if c.arch is None)


def test_objects_are_read_pretty_printed_or_as_python_writes_them() -> None:
    space = spaces.load("ofa-mbv3")
    arch = next(space.all())
    official = json.loads(space.format(arch))
    text = f"First:\n{json.dumps(official, indent=2)}\nthen {official} and {{'ks': [3]}}, and {{not one}}"
    found = paper_answers.read(space, text)
    assert [c.arch for c in found] == [arch, arch, None, None]


def test_numbers_inside_longer_words_are_no_architectures() -> None:
    from collm_nas.api import Variable

    digits = CategoricalSpace("d", [Variable(n, ("0", "1", "2")) for n in "abc"], template="{a}{b}{c}")
    assert [c.arch is None for c in paper_answers.read(digits, "- 012\n- 0121\n- x012\n- 2.012")] == [
        False, True, True, True,
    ]  # fmt: skip


# --- prompts of one's own ---------------------------------------------------------------------------------------------


def problem() -> Problem:
    return Problem(SPACE, 0, 10, Caps(), SPACE.cost)


def test_texts_may_be_replaced_one_by_one(tmp_path: Path, engine: Scripted) -> None:
    (tmp_path / "generator_user.md").write_text("Build: $strategy ($$5)")
    run(engine, prompts=tmp_path)
    assert engine.of("generator")[0].prompt == "Build: ## Summary\nstrategy 1 ($5)"
    assert "analyst" in engine.asked[0].history[0][1]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("generator.md", "x", r"holds 'generator.md', which is none of navigator_system\.md, "),
        ("generator_user.md", "$stragety", r"uses \$stragety, which is not known there; legal: \$strategy, \$request"),
        ("generator_user.md", "costs 5$ each", r"has a \$ that begins no placeholder"),
    ],
)
def test_a_wrong_text_is_named(tmp_path: Path, name: str, text: str, sentence: str, engine: Scripted) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        paper.create(problem(), engine, prompts=tmp_path)


def test_a_folder_without_texts_is_named(tmp_path: Path, engine: Scripted) -> None:
    with pytest.raises(UserError, match="holds no text"):
        paper.create(problem(), engine, prompts=tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        paper.create(problem(), engine, prompts=tmp_path / "none")


def test_starting_points_are_the_first_results(engine: Scripted) -> None:
    made = paper.create(problem(), engine)
    arch = SPACE.parse(LINES[5])
    seen = Observation(paper_answers.read(SPACE, LINES[5])[0], "evaluated", Evaluation(1.5, SPACE.cost(arch)))
    made.tell([seen])
    made.ask(5)
    assert "Results of the last round" in engine.asked[0].prompt and "fitness 1.5" in engine.asked[0].prompt
