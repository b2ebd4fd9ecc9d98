"""The contract of `api.SearchSpace`, run on every built-in space, a conditional YAML space and restricted ones."""

from __future__ import annotations

import random
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas import spaces, strategy
from collm_nas.api import SearchSpace
from collm_nas.spaces import yaml_space
from collm_nas.spaces.base import LETTERS

CONDITIONAL = """
name: conditional
variables:
  - {name: d, choices: [2, 3, 4]}
  - {name: k1, choices: [3, 5, 7]}
  - {name: k2, choices: [3, 5, 7], active_if: {d: [3, 4]}}
  - {name: k3, choices: [3, 5, 7], active_if: {d: [4], k2: [5, 7]}}
  - {name: act, choices: [relu, h.swish, "no"]}
  - {name: se, choices: ["0", "1"], active_if: {act: [relu]}}
encoding: "<{d}> {k1},{k2},{k3} {act}+{se}"
costs: {flops: {base: 3, k1: [1, 2, 3], k3: [5, 6, 7], se: [0, 9]}}
"""
NAMES = [*spaces.names(), "conditional", "restricted"]
ENCODINGS = ("native", "compact")


@cache
def space_of(name):
    if name in spaces.names():
        return spaces.load(name)
    whole = yaml_space.parse(CONDITIONAL, "conditional.yaml")
    return whole if name == "conditional" else whole.restrict(random.Random(0).sample(list(whole.all()), 40))


def some(space):
    return st.integers(0, 2**32).map(lambda seed: space.sample(random.Random(seed)))


def fits(space, encoding):
    """Whether the space is small enough for the encoding."""
    return encoding == "native" or (len(space.variables) <= 52 and all(len(v.choices) <= 36 for v in space.variables))


@pytest.mark.parametrize("name", NAMES)
def test_is_a_search_space(name):
    space = space_of(name)
    assert isinstance(space, SearchSpace)
    assert space.size == space.count(())
    assert space.name and len({v.name for v in space.variables}) == len(space.variables)
    if space.edges is not None:
        last = max(b for _, b in space.edges)
        assert len(space.edges) == len(space.variables) and all(0 <= a < b <= last for a, b in space.edges)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", NAMES)
def test_spelling_round_trip_and_regex(name, encoding):
    space = space_of(name)
    if not fits(space, encoding):
        pytest.skip(f"{name} is too large for the compact encoding")
    pattern = re.compile(space.regex(encoding))

    @settings(max_examples=60, deadline=None)
    @given(some(space), st.data())
    def check(arch, data):
        text = space.format(arch, encoding)
        assert space.parse(text, encoding) == space.parse(f" {text}\n", encoding) == arch
        assert pattern.fullmatch(text)
        # A damaged text is outside the expression unless it spells an architecture, and then canonically.
        at = data.draw(st.integers(0, len(text)))
        damaged = text[:at] + data.draw(st.sampled_from(["", "0", "7", "b", "|", " "])) + text[at + 1 :]
        if pattern.fullmatch(damaged):
            choices = space_of("conditional" if name == "restricted" else name).parse(damaged, encoding)
            assert space.format(choices, encoding) == damaged

    check()


@pytest.mark.parametrize("name", NAMES)
def test_mapping_and_sequence_spell_the_same(name):
    space = space_of(name)

    @settings(max_examples=30, deadline=None)
    @given(some(space))
    def check(arch):
        flags = space.active(arch.choices)
        chosen = [v.choices[c] for v, c in zip(space.variables, arch.choices, strict=True)]
        full = dict(zip([v.name for v in space.variables], chosen, strict=True))
        active = {v.name: full[v.name] for v, on in zip(space.variables, flags, strict=True) if on}
        assert space.parse(full) == space.parse(active) == space.parse(chosen) == arch

    check()


@pytest.mark.parametrize("name", NAMES)
def test_counts_add_up(name):
    space = space_of(name)

    @settings(max_examples=60, deadline=None)
    @given(some(space), st.integers(0, len(space.variables)))
    def check(arch, length):
        prefix = arch.choices[:length]
        assert space.count(prefix) >= 1
        if length == len(space.variables):
            assert space.count(prefix) == 1
            return
        legal = space.legal_next(prefix)
        assert arch.choices[length] in legal
        assert space.count(prefix) == sum(space.count((*prefix, choice)) for choice in legal)
        for choice in set(range(len(space.variables[length].choices))) - set(legal):
            assert space.count((*prefix, choice)) == 0

    check()


@pytest.mark.parametrize("name", NAMES)
def test_neighbors(name):
    space = space_of(name)

    @settings(max_examples=30, deadline=None)
    @given(some(space))
    def check(arch):
        near = space.neighbors(arch)
        assert arch not in near and len(near) == len(set(near))
        for other in near:
            assert space.make(other.choices) == other  # legal and canonical
            # One active variable was chosen anew; all others that differ were switched by it.
            flags, others = space.active(arch.choices), space.active(other.choices)
            pairs = zip(arch.choices, other.choices, flags, others, strict=True)
            assert sum(a != b for a, b, on, still in pairs if on and still) == 1

    check()


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng], ids=["random", "numpy"])
@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_seeded_and_legal(name, make):
    space = space_of(name)
    one, two = make(7), make(7)
    drawn = [space.sample(one) for _ in range(50)]
    assert drawn == [space.sample(two) for _ in range(50)]
    assert len(set(drawn)) > 10
    assert all(space.make(arch.choices) == arch for arch in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_all_is_complete(name):
    space = space_of(name)
    if space.size > 100_000:
        pytest.skip(f"{name} has {space.size} architectures")
    everything = list(space.all())
    assert len(everything) == len(set(everything)) == space.size


@pytest.mark.parametrize("name", NAMES)
def test_costs_are_finite_and_spec_rebuilds(name):
    space = space_of(name)
    again = spaces.from_spec(space.spec())
    assert again.spec() == space.spec()
    rng = random.Random(1)
    for arch in [space.sample(rng) for _ in range(20)]:
        cost = space.cost(arch)
        assert set(cost) <= {"flops", "params", "latency"}
        assert all(0 <= value < float("inf") for value in cost.values())
        assert again.cost(arch) == cost


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_reads_back(name):
    """cifar-stages once put another space where strategies parse by it: every one was thrown away, silently."""
    space = space_of(name)
    rng = random.Random(2)
    anchors = tuple(space.sample(rng) for _ in range(strategy.ANCHORS))
    directions = tuple(strategy.Direction(0, len(v.choices) - 1, 1) for v in space.variables)
    plan = strategy.Strategy(anchors, directions, 3, 2)
    assert strategy.Strategy.parse(plan.words(space), space) == plan
    if len(space.variables) <= len(LETTERS):
        assert strategy.Strategy.parse(plan.compact(space), space) == plan


@pytest.mark.parametrize("name", [*spaces.names(), "conditional"])
def test_networks_that_differ_are_drawn_differently(name):
    """Every built-in space draws its networks, and no searched choice is missing from the drawing."""
    space = space_of(name)
    arch = space.sample(random.Random(1))
    drawn = space.drawing(arch)
    assert (drawn is None) == (name == "conditional")
    if drawn is not None:
        assert all(space.drawing(other) != drawn for other in space.neighbors(arch))
