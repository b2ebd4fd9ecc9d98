from __future__ import annotations

import random
import re

import pytest

from collm_nas import prompts
from collm_nas.api import Architecture, Caps, UserError, Variable
from collm_nas.evaluators.landscape import LandscapeEvaluator, draw
from collm_nas.spaces.base import CategoricalSpace

TOKEN = re.compile(prompts.TOKEN_PATTERN)


def _history(made: LandscapeEvaluator, n: int) -> tuple[list[Architecture], list[float]]:
    rng = random.Random(1)
    archs = list(dict.fromkeys(made.space.sample(rng) for _ in range(n)))
    return archs, [e.fitness for e in made.evaluate(archs)]


def test_the_vocabulary_reserves_every_pair_once_and_fills_up_to_64() -> None:
    tokens = prompts.vocabulary()
    assert len(tokens) == len(set(tokens))
    assert len(tokens) % 64 == 0
    assert sum(bool(re.fullmatch(r"[a-zA-Z][0-9a-z]", t)) for t in tokens) == 52 * 36


@pytest.mark.parametrize("version", prompts.DIGEST_VERSIONS)
@pytest.mark.parametrize("seed", range(12))
def test_a_digest_is_made_of_whole_tokens(seed: int, version: int) -> None:
    made = draw(seed)
    archs, values = _history(made, 40)
    press = prompts.pressure(made.space, made.caps, made.space.cost)
    past = [prompts.Tried(archs[0], 1, 2)]
    text = prompts.digest(made.space, archs, values, past=past, pressure=press, version=version)
    assert set(TOKEN.findall(text)) <= set(prompts.vocabulary())
    assert text.endswith("<nav>")
    assert ("<cap>" in text) == bool(made.caps.limits)


@pytest.mark.parametrize("version", prompts.DIGEST_VERSIONS)
@pytest.mark.parametrize(("variables", "choices"), [(6, 5), (20, 4), (46, 3), (52, 36)])
def test_a_digest_stays_under_a_thousand_tokens_at_any_budget(variables: int, choices: int, version: int) -> None:
    space = CategoricalSpace("s", [Variable(f"v{i}", tuple(map(str, range(choices)))) for i in range(variables)])
    rng = random.Random(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(400)))
    past = [prompts.Tried(a, 7, 5) for a in archs[:5]]
    text = prompts.digest(space, archs, [rng.random() for _ in archs], past=past, version=version)
    assert len(TOKEN.findall(text)) < 1000


def test_version_3_lists_more_of_the_best_where_they_are_short() -> None:
    shown = {}
    for variables in (4, 8, 20, 46):
        space = CategoricalSpace("s", [Variable(f"v{i}", ("0", "1", "2", "3")) for i in range(variables)])
        rng = random.Random(0)
        archs = list(dict.fromkeys(space.sample(rng) for _ in range(100)))
        texts = [prompts.digest(space, archs, list(range(len(archs))), version=version) for version in (2, 3)]
        shown[variables] = tuple(text.count("<g") for text in texts)
    assert shown == {4: (12, 64), 8: (12, 50), 20: (7, 21), 46: (3, 9)}


@pytest.mark.parametrize("version", prompts.DIGEST_VERSIONS)
def test_the_order_of_the_history_does_not_matter(version: int) -> None:
    made = draw(4)
    archs, values = _history(made, 30)
    order = list(range(len(archs)))
    random.Random(2).shuffle(order)
    shuffled = prompts.digest(made.space, [archs[i] for i in order], [values[i] for i in order], version=version)
    assert shuffled == prompts.digest(made.space, archs, values, version=version)


def test_a_good_choice_shows_a_higher_level_and_the_best_come_first() -> None:
    space = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))])
    archs = list(space.all())
    text = prompts.digest(space, archs, [10.0 * a.choices[0] + a.choices[1] for a in archs], version=1)
    level = {pair: int(mark[2], 16) for mark, pair in re.findall(r"(<e..>)([ab]\d)", text)}
    assert level["a1"] > 8 > level["a0"]
    assert level["b2"] > level["b0"]
    assert re.match(r"<digest><r0><e..>a1<e..>b2<r1><e..>a0<e..>b1<r2><e..>b0<best>a1b2<g0>a1b1", text)


def test_changes_of_the_best_are_listed_by_what_they_would_bring() -> None:
    space = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))])
    archs = [a for a in space.all() if a.choices != (1, 2)]  # the best one is still open
    text = prompts.digest(space, archs, [10.0 * a.choices[0] + a.choices[1] for a in archs])
    assert re.match(r"<digest><o.><b.><r0><ea0>a1<e..>b2<r1><e..>a0<ea0>b1<r2><e..>b0<best>a1b1<g0>a1b0", text)
    gain = {pair: int(mark[2], 16) for mark, pair in re.findall(r"(<e..>)([ab]\d)", text)}
    assert gain["b2"] > 10 > gain["b0"] >= gain["a0"]


def test_over_cap_architectures_inform_but_are_not_among_the_best() -> None:
    space = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))])
    archs = list(space.all())
    text = prompts.digest(space, archs, list(range(6)), feasible=[True] * 5 + [False])
    assert "a1b2<g" not in text
    assert "<best>a1b1<g0>" in text


def test_pressure_names_the_dear_choices() -> None:
    variables = [Variable("x", ("small", "large")), Variable("y", ("0", "1"))]
    costs = {"flops": {"base": 1.0, "table": {0: [0.0, 10.0], 1: [0.0, 1.0]}}}
    space = CategoricalSpace("s", variables, costs=costs)
    press = prompts.pressure(space, Caps({"flops": 5.0}), space.cost)
    assert press is not None
    assert press.levels[1] > press.levels[0]
    assert press.levels[1] > press.levels[3]
    assert 6 <= press.tightness <= 10  # half of the space fits
    assert prompts.pressure(space, Caps({}), space.cost) is None


def test_gain_levels() -> None:
    assert prompts.gain_level(1.0, 1.0, 1.0) == 0
    assert prompts.gain_level(1.0, 1.01, 1.0) == 1
    assert prompts.gain_level(1.0, 2.0, 1.0) == 2
    assert prompts.gain_level(1.0, 99.0, 1.0) == 5


@pytest.mark.parametrize("text", ["a1b2", "1 2", '{"arch": "a1b2"}', '{"arch":"1 2"}', " a1b2\n"])
def test_candidates_are_read_leniently(text: str) -> None:
    space = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))])
    assert prompts.parse_candidate(space, text).choices == (1, 2)


@pytest.mark.parametrize("text", ["", "a1", "a2b0", '{"arch": 3}', "{", "[]", "a1b2c0"])
def test_illegal_candidates_are_named(text: str) -> None:
    space = CategoricalSpace("s", [Variable("x", ("0", "1")), Variable("y", ("0", "1", "2"))])
    with pytest.raises(UserError):
        prompts.parse_candidate(space, text)
