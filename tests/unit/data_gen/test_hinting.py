"""Hints to learn from: as often right as their kind says, and only about what is active."""

import numpy as np
import pytest

from collm_nas import spaces
from data_gen import hinting
from data_gen.examples import Form
from data_gen.mine_landscapes import Landscapes


@pytest.mark.parametrize(("kind", "share"), list(hinting.RIGHT.items()))
def test_a_hint_is_as_often_right_as_its_kind_says(kind: str, share: float) -> None:
    space, rng = spaces.load("ofa-mbv3"), np.random.default_rng(0)
    best = space.make([0] * len(space.variables))  # the least depth: half of the variables are inactive
    right = []
    for _ in range(300):
        hint = hinting.draw(space, best, rng, kind)
        assert hint is not None
        for i, wanted in hint.items():
            assert space.active(best.choices)[i] and wanted and len(wanted) < len(space.variables[i].choices)
            right.append(best.choices[i] in wanted)
    assert abs(np.mean(right) - share) < 0.06


def test_there_is_no_advice_where_there_is_no_choice() -> None:
    space = spaces.from_spec({"name": "one", "variables": [{"name": "a", "choices": ["x"]}], "encoding": "{a}"})
    assert hinting.draw(space, space.make([0]), np.random.default_rng(0)) is None


def test_a_share_of_the_navigators_examples_has_one() -> None:
    counts = []
    for hinted in (0.0, 0.5, 1.0):
        source = Landscapes(landscapes=12, form=Form(targets=1, hinted=hinted))
        made = [e for unit in range(12) for e in source.examples(unit)]
        assert not any("<hint>" in e.prompt for e in made if e.role == "generator")
        navigator = [e for e in made if e.role == "navigator"]
        counts.append(sum("<hint>" in e.prompt for e in navigator) / len(navigator))
    assert counts[0] == 0.0 and 0.2 < counts[1] < 0.8 and counts[2] == 1.0
