"""What the decoding modes promise, shown with a model that knows nothing."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collm_nas import strategy
from collm_nas.api import Architecture, Completion, Constraint, Encoding, Request, Role, TextMask, UserError, Variable
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces.base import CategoricalSpace
from inference.engines.transformers import TransformersEngine
from tests.inference.small import parts, spaces

ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
few = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ask(
    engine: TransformersEngine,
    pattern: str | None,
    *,
    n: int = 4,
    seed: int = 0,
    mask: TextMask | None = None,
    role: Role = "generator",
    temperature: float = 1.0,
    max_tokens: int = 200,
) -> list[Completion]:
    constraint = None if pattern is None else Constraint("regex", pattern)
    return engine.generate(Request(role, "<a>a0b1<gen>", n, seed, temperature, max_tokens, constraint, mask))


def read(space: CategoricalSpace, encoding: Encoding, answers: list[Completion]) -> list[Architecture]:
    """The answers, which must be finished, legal and in canonical spelling."""
    archs = [space.parse(answer.text, encoding) for answer in answers]
    assert all(answer.finished for answer in answers)
    assert [space.format(arch, encoding) for arch in archs] == [answer.text for answer in answers]
    return archs


@given(space=spaces(), encoding=st.sampled_from(ENCODINGS), seed=st.integers(0, 2**31))
@few
def test_legal_emits_no_illegal_candidate(
    engine: TransformersEngine, space: CategoricalSpace, encoding: Encoding, seed: int
) -> None:
    answers = ask(engine, space.regex(encoding), seed=seed)
    assert len(read(space, encoding, answers)) == 4


@pytest.mark.parametrize("drafts", [0, 3])
@given(space=parts(40), encoding=st.sampled_from(ENCODINGS), seed=st.integers(0, 2**31), n=st.integers(1, 9))
@few
def test_new_emits_every_architecture_once_and_then_none(
    engine: TransformersEngine,
    drafts: int,
    space: CategoricalSpace,
    encoding: Encoding,
    seed: int,
    n: int,
) -> None:
    engine = with_drafts(engine, drafts)
    rng = Random(seed)
    visited = {arch for arch in space.all() if rng.random() < 0.3}
    mask = Remaining(space, encoding)
    for arch in visited:
        mask.exclude(arch)
    while left := space.size - len(visited):
        archs = read(space, encoding, ask(engine, space.regex(encoding), n=n, seed=seed + left, mask=mask))
        assert len(archs) == len(set(archs)) == min(n, left)
        assert not visited & set(archs)
        for arch in archs:
            mask.exclude(arch)
        visited |= set(archs)
    assert visited == set(space.all())
    assert ask(engine, space.regex(encoding), mask=mask) == []


def with_drafts(engine: TransformersEngine, drafts: int) -> TransformersEngine:
    return TransformersEngine(engine.folder, engine.model, engine.tokenizer, "outlines_core", "rejection", drafts)


def test_drafts_are_those_of_the_unmasked_model_in_order_and_their_tokens_count(engine: TransformersEngine) -> None:
    space = toy(3, 4)
    mask = Remaining(space, "compact")
    free = ask(engine, space.regex("compact"), n=20)
    mask.exclude(space.parse(free[0].text, "compact"))
    new = list(dict.fromkeys(answer.text for answer in free if answer.text != free[0].text))
    drafted = ask(with_drafts(engine, 4), space.regex("compact"), n=5, mask=mask)
    assert [answer.text for answer in drafted][: len(new)] == new[:5]
    assert sum(answer.tokens for answer in drafted) >= 60 and len({answer.text for answer in drafted}) == 5


def toy(variables: int = 6, choices: int = 5) -> CategoricalSpace:
    return CategoricalSpace("toy", [Variable(f"v{i}", tuple("abcdefghi"[:choices])) for i in range(variables)])


@pytest.mark.parametrize("seed", range(5))
def test_strategies_parse_and_are_written_in_the_tokens_of_training(engine: TransformersEngine, seed: int) -> None:
    """A tag or pair written character by character would parse, but the Generator never read such tokens."""
    space = toy()
    (answer,) = ask(engine, strategy.regex(space), n=1, seed=seed, role="navigator")
    assert strategy.Strategy.parse(answer.text, space).compact(space) == answer.text
    assert answer.tokens == len(engine.tokenizer(answer.text)["input_ids"])


@pytest.mark.parametrize("pattern", ["(a0|a-){9}", "(a(0|-)?){9}", "<(dir|foo)>[a-c]{9}", "([A-C][0-1]?<?){9}"])
def test_tokens_are_canonical_and_nothing_becomes_unreachable(engine: TransformersEngine, pattern: str) -> None:
    answers = ask(engine, pattern, n=40, temperature=3.0)
    for answer in answers:
        assert "<foo>" in answer.text or answer.tokens == len(engine.tokenizer(answer.text)["input_ids"])
    if pattern == "(a0|a-){9}":
        assert {char for answer in answers for char in answer.text} == {"a", "0", "-"}


def test_json_comes_without_white_space(engine: TransformersEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"k": {"enum": [3, 5, 7]}, "e": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3}},
        "required": ["k", "e"],
    }
    constraint = Constraint("json", json.dumps(schema))
    for answer in engine.generate(Request("generator", "x", 8, 0, 1.0, 100, constraint)):
        value = json.loads(answer.text)
        assert value["k"] in (3, 5, 7) and set(value["e"]) <= {1, 2}
        assert not any(char.isspace() for char in answer.text)


def test_free_answers_are_cut_at_the_limit_and_say_so(engine: TransformersEngine) -> None:
    answers = ask(engine, None, n=6, max_tokens=7)
    assert all(answer.tokens == 7 for answer in answers if not answer.finished)
    assert not all(answer.finished for answer in answers)
    (cut,) = ask(engine, "(a0){9}", n=1, max_tokens=4)
    assert (cut.text, cut.tokens, cut.finished) == ("a0a0a0a0", 4, False)
    (whole,) = ask(engine, "(a0){9}", n=1, max_tokens=10)
    assert (whole.text, whole.tokens, whole.finished) == ("a0" * 9, 9, True)


def test_prompt_tokens_and_seconds_are_shares_of_the_call(engine: TransformersEngine) -> None:
    answers = ask(engine, toy().regex("compact"), n=3)
    assert sum(answer.prompt_tokens for answer in answers) == 4
    assert len({answer.seconds for answer in answers}) == 1 and answers[0].seconds > 0


def test_greedy_is_the_likeliest_and_still_distinct_under_a_mask(engine: TransformersEngine) -> None:
    space = toy(3, 4)
    mask = Remaining(space, "compact")
    alone = ask(engine, space.regex("compact"), n=3, temperature=0.0)
    assert len({answer.text for answer in alone}) == 1
    distinct = ask(engine, space.regex("compact"), n=5, temperature=0.0, mask=mask)
    assert distinct[0].text == alone[0].text
    assert len({answer.text for answer in distinct}) == 5


def test_a_prompt_beyond_the_context_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(UserError, match="exceed the model's context of 512"):
        engine.generate(Request("navigator", "<dir>" * 500, 1, 0, 1.0, 100))
    with pytest.raises(UserError, match="prompt is empty"):
        engine.generate(Request("navigator", "", 1, 0, 1.0, 100))


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (Constraint("regex", "a(?=b)"), "can't use the regex 'a\\(\\?=b\\)'"),
        (Constraint("regex", "(a)\\1"), "can't use the regex"),
        (Constraint("regex", "(a"), "can't use the regex"),
        (Constraint("json", "{"), "can't use the json"),
        (Constraint("json", '{"type": "nonsense"}'), "can't use the json"),
        (Constraint("lark", "start: x"), "kind regex or json, but got 'lark'"),
    ],
)
def test_constraints_that_cannot_be_used_are_named(
    engine: TransformersEngine, constraint: Constraint, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        engine.generate(Request("generator", "x", 1, 0, 1.0, 10, constraint))


def test_compiled_constraints_are_kept(engine: TransformersEngine) -> None:
    constraint = Constraint("regex", "a0b1c2")
    first, second = engine.backend.processor(constraint), engine.backend.processor(constraint)
    assert first is not second and first.index is second.index
