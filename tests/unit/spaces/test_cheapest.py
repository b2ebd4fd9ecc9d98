"""The cheapest completion of a prefix, against all completions looked at one by one."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas import spaces
from collm_nas.api import Architecture, Encoding, Variable
from collm_nas.constraints.cheapest import Cheapest, cheapest
from collm_nas.constraints.fronts import Vector, add
from collm_nas.spaces.base import CategoricalSpace
from tests.inference.small import spaces as small_spaces

ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
COSTS = ("flops", "params")


@st.composite
def priced(draw: st.DrawFn) -> CategoricalSpace:
    """A small conditional space with a cost for each choice of some variables, whole or in binary fractions."""
    space = draw(small_spaces(60))
    numbers = st.integers(0, 9) | st.sampled_from([0.125, 0.25, 2.75])
    costs = {}
    for cost in COSTS:
        table = {
            i: [draw(numbers) for _ in variable.choices]
            for i, variable in enumerate(space.variables)
            if draw(st.booleans())
        }
        costs[cost] = {"base": draw(numbers), "table": table}
    return CategoricalSpace("small", space.variables, costs=costs)


def completions(tree: Cheapest, prefix: Vector) -> tuple[set[Vector], Vector]:
    """The front and the most of each cost, as the tree has them."""
    state, spent = (), tree.constant
    for choice in prefix:
        state, spent = tree.step(state, spent, choice)
    found = tree.completions(state, spent)
    return {add(found.base, vector) for vector in found.front}, found.most


def costs_of(space: CategoricalSpace, tree: Cheapest, arch: Architecture, names: tuple[str, ...]) -> Vector:
    known = space.cost(arch)
    return tuple(round(known[name] * scale) for name, scale in zip(names, tree.scales, strict=True))


def brute(vectors: set[Vector]) -> tuple[set[Vector], Vector]:
    beaten = {v for v in vectors for w in vectors if v != w and all(a >= b for a, b in zip(v, w, strict=True))}
    return vectors - beaten, tuple(max(column) for column in zip(*vectors, strict=True))


@given(space=priced(), names=st.sampled_from([("flops",), ("params",), COSTS]))
@settings(deadline=None, max_examples=100)
def test_every_prefix_of_a_small_space(space: CategoricalSpace, names: tuple[str, ...]) -> None:
    tree = Cheapest(space, "compact", names)
    known = {arch.choices: costs_of(space, tree, arch, names) for arch in space.all()}
    for prefix in {choices[:end] for choices in known for end in range(len(choices) + 1)}:
        below = {vector for choices, vector in known.items() if choices[: len(prefix)] == prefix}
        assert completions(tree, prefix) == brute(below), prefix


LARGE = [name for name in spaces.names() if spaces.load(name).terms("flops") is not None]


def test_the_spaces_that_multiply_state_their_terms() -> None:
    assert {"ofa-mbv3", "ofa-mbv3-w1.2", "digits-mbconv", "autoformer-base", "spos-shufflenet"} <= set(LARGE)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("name", LARGE)
def test_terms_add_up_to_the_cost(name: str, cost: str) -> None:
    space, rng = spaces.load(name), Random(0)
    terms = space.terms(cost)
    assert terms is not None
    for _ in range(40):
        arch = space.sample(rng)
        on = space.active(arch.choices)
        used = [term for term in terms if all(on[p] for p in term.positions)]
        assert sum(t.values[tuple(arch.choices[p] for p in t.positions)] for t in used) == space.cost(arch)[cost]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", LARGE)
def test_prefixes_of_large_spaces(name: str, encoding: Encoding) -> None:
    """All variables but some are fixed as in a random architecture: those at the end, so that the rest can be listed.

    Then the first ones are freed too, which only a whole group's solution covers: no sampled architecture is cheaper.
    """
    space, rng = spaces.load(name), Random(1)
    spelled = space.speller(encoding)
    tree = Cheapest(space, encoding, COSTS)
    for _ in range(6):
        whole = space.as_spelled(space.sample(rng)) if encoding == "native" else space.sample(rng)
        prefix = whole.choices
        while prefix and spelled.count(prefix[:-1]) <= 150:
            prefix = prefix[:-1]
        below = {costs_of(space, tree, unspelled(space, spelled, a), COSTS) for a in ends(spelled, prefix)}
        assert completions(tree, prefix) == brute(below)
        for end in range(0, len(prefix), 5):
            front, most = completions(tree, prefix[:end])
            for vector in below:
                assert any(all(a <= b for a, b in zip(low, vector, strict=True)) for low in front)
                assert all(a <= b for a, b in zip(vector, most, strict=True))


def ends(space: CategoricalSpace, prefix: Vector) -> list[Architecture]:
    """Every legal architecture that begins with the prefix."""
    if len(prefix) == len(space.variables):
        return [Architecture(space.name, prefix)]
    return [arch for choice in space.legal_next(prefix) for arch in ends(space, (*prefix, choice))]


def unspelled(space: CategoricalSpace, spelled: CategoricalSpace, arch: Architecture) -> Architecture:
    """The architecture in the space's own order."""
    chosen = dict(zip([v.name for v in spelled.variables], arch.choices, strict=True))
    return Architecture(space.name, tuple(chosen[v.name] for v in space.variables))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_narrow_ofa_space_with_the_resolution_open(encoding: Encoding) -> None:
    """Few blocks are left open, and the resolution, which multiplies all: 2 x 81 x 3 x 3 ends."""
    space = spaces.load("ofa-mbv3", resolutions=[128, 224])
    tree = Cheapest(space, encoding, ["flops"])
    spelled = space.speller(encoding)
    free = [i for i, v in enumerate(spelled.variables) if v.name in ("ks1", "e1", "ks6", "e20", "d5")]
    least = min(
        space.cost(unspelled(space, spelled, spelled.make(choices)))["flops"]
        for r in range(2)
        for values in itertools.product(range(3), repeat=len(free))
        for choices in [_with(len(spelled.variables), r, dict(zip(free, values, strict=True)))]
    )
    assert completions(tree, ())[0] == {(least,)}


def _with(length: int, resolution: int, chosen: dict[int, int]) -> list[int]:
    return [resolution, *(chosen.get(i, 0) for i in range(1, length))]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("name", ["nasbench201", "digits-cells", "cifar-stages"])
def test_the_cheapest_of_spaces_that_can_be_listed(name: str, cost: str) -> None:
    space = spaces.load(name)
    assert cheapest(space, cost) == min(space.cost(arch)[cost] for arch in space.all())


def test_the_cheapest_of_a_part_and_of_what_is_not_known() -> None:
    variables = [Variable(f"v{i}", ("0", "1")) for i in range(20)]
    space = CategoricalSpace("s", variables, costs={"flops": {"base": 0.1, "table": {3: [0.2, 0.1]}}})
    assert cheapest(space, "flops") == 0.2
    assert cheapest(space.restrict([space.make([0] * 20)]), "flops") == pytest.approx(0.3)
    assert cheapest(space, "params") is None
    with pytest.raises(ValueError, match="states no terms for params"):
        Cheapest(space, "compact", ["params"])


def test_a_variable_that_all_others_condition_is_no_burden() -> None:
    """A chain and a star of conditions: the states of a group stay few."""
    chain = [Variable("v0", ("0", "1"))]
    chain += [Variable(f"v{i}", ("0", "1"), ((i - 1, frozenset({1})),)) for i in range(1, 40)]
    star = [Variable("v0", ("0", "1"))]
    star += [Variable(f"v{i}", ("0", "1"), ((0, frozenset({1})),)) for i in range(1, 40)]
    for variables in (chain, star):
        table = {i: [5, 1] for i in range(40)}
        space = CategoricalSpace("s", variables, costs={"flops": {"base": 7, "table": table}})
        assert cheapest(space, "flops") == 12
