"""Invented fitness on real spaces: their variables, conditions and costs are exact."""

from __future__ import annotations

import random

import numpy as np
import pytest

from collm_nas import spaces
from collm_nas.api import UserError, Variable
from collm_nas.evaluators.landscape import Family
from collm_nas.evaluators.landscape_on import SpaceLandscapeEvaluator, additive_costs, conditions, draw_on_space
from collm_nas.spaces.base import CategoricalSpace


@pytest.mark.parametrize("name", ["ofa-mbv3", "spos-shufflenet", "autoformer-tiny"])
def test_the_landscape_switches_on_what_the_space_does(name: str) -> None:
    space = spaces.load(name)
    made = draw_on_space(space, np.random.default_rng(0), Family())
    rng = random.Random(0)
    for _ in range(20):
        arch = space.sample(rng)
        x = np.array([arch.choices])
        assert tuple(made.active(x)[0].tolist()) == space.active(arch.choices)
        assert made.canonical(x)[0].tolist() == list(arch.choices)


def test_additive_costs_follow_the_real_ones() -> None:
    space = spaces.load("ofa-mbv3")
    costs_VK = additive_costs(space)
    rng = random.Random(1)
    archs = [space.sample(rng) for _ in range(100)]
    fitted = [
        sum(costs_VK[v, c] for v, (c, on) in enumerate(zip(a.choices, space.active(a.choices), strict=True)) if on)
        for a in archs
    ]
    assert np.corrcoef(fitted, [space.cost(a)["flops"] for a in archs])[0, 1] > 0.95


def test_the_optimum_is_within_the_cap_and_no_neighbour_beats_it() -> None:
    space = spaces.load("spos-shufflenet")
    made = SpaceLandscapeEvaluator(space, 7, 0.3)
    rng = random.Random(2)
    drawn = [space.sample(rng) for _ in range(300)]
    within = [arch for arch in drawn if made.caps.allow(space.cost(arch))]
    assert 0.2 < len(within) / len(drawn) < 0.4
    assert made.optimum > max(made.report(arch)["true"] for arch in within)
    free = SpaceLandscapeEvaluator(space, 7)
    assert free.optimum >= made.optimum
    assert not free.caps.limits


def test_conditions_that_no_landscape_has_are_named() -> None:
    variables = [Variable("a", ("x", "y", "z")), Variable("b", ("0", "1"), ((0, frozenset({0, 2})),))]
    with pytest.raises(UserError, match="'b' depends on more than whether one variable is large enough"):
        conditions(CategoricalSpace("odd", variables))


def test_a_space_without_costs_has_landscapes_but_no_caps() -> None:
    space = CategoricalSpace("free", [Variable(f"v{i}", ("0", "1", "2")) for i in range(4)])
    made = SpaceLandscapeEvaluator(space, 3)
    assert made.optimum >= max(made.report(arch)["true"] for arch in space.all()) - 1e-9
    with pytest.raises(UserError, match="'free' has no cost 'flops'"):
        SpaceLandscapeEvaluator(space, 3, 0.5)
