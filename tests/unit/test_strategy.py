from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm_nas import spaces, strategy
from collm_nas.api import UserError
from collm_nas.evaluators.landscape import draw
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Direction, Strategy


def _random_strategy(space: CategoricalSpace, rng: random.Random) -> Strategy:
    directions = tuple(
        Direction(rng.randrange(len(v.choices)), rng.randrange(len(v.choices)), rng.randrange(4))
        for v in space.variables
    )
    anchors = tuple(space.sample(rng) for _ in range(strategy.ANCHORS))
    return Strategy(anchors, directions, rng.randrange(8), rng.randrange(len(strategy.REASONS)))


@given(seed=st.integers(0, 300), draw_seed=st.integers(0, 10_000))
def test_both_renderings_parse_back_to_the_same_value(seed: int, draw_seed: int) -> None:
    space = draw(seed).space
    written = _random_strategy(space, random.Random(draw_seed))
    assert Strategy.parse(written.compact(space), space) == written
    assert Strategy.parse(written.words(space), space) == written


@given(seed=st.integers(0, 300), draw_seed=st.integers(0, 10_000))
def test_the_grammar_accepts_what_is_rendered(seed: int, draw_seed: int) -> None:
    space = draw(seed).space
    text = _random_strategy(space, random.Random(draw_seed)).compact(space)
    assert re.fullmatch(strategy.regex(space), text)
    assert len(text) <= strategy.longest(space)
    assert not re.fullmatch(strategy.regex(space), text[:-1])
    assert not re.fullmatch(strategy.regex(space), text.replace("<dir>", ""))


@pytest.mark.parametrize("text", ["", "<a>", "nonsense", "<a>a0<dir>", "anchor: 0 0\nroam: far\nwhy: because"])
def test_what_is_no_strategy_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        Strategy.parse(text, draw(0).space)
    assert "\n" not in str(caught.value)


def test_a_strategy_in_which_all_is_active_is_as_long_as_the_longest() -> None:
    space = spaces.load("digits-cells")
    text = _random_strategy(space, random.Random(0)).compact(space)
    assert len(text) == strategy.longest(space)
