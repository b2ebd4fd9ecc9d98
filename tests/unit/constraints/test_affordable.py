"""The mask within caps: what it admits is affordable, what is affordable it admits, and no walk over it is stuck."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas import spaces
from collm_nas.api import END, Architecture, Encoding, TextMask, Variable
from collm_nas.constraints.affordable import Affordable, maskable
from collm_nas.constraints.cheapest import cheapest
from collm_nas.constraints.remaining import Remaining, Repeatable, within
from collm_nas.spaces.base import CategoricalSpace
from tests.inference.small import spaces as small_spaces

ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
COSTS = ("flops", "params")


@st.composite
def capped(draw: st.DrawFn) -> tuple[CategoricalSpace, dict[str, float]]:
    """A small conditional space with costs, and caps that leave some of it, one of them just at a cost.

    Costs are whole numbers or decimals: 0.1 + 0.2 is not 0.3, and a cap of either must hold all the same.
    """
    space = draw(small_spaces(60))
    numbers = draw(st.sampled_from([st.integers(0, 9), st.sampled_from([0.1, 0.2, 0.3, 0.7, 1.1])]))
    costs = {}
    for cost in COSTS:
        table = {i: [draw(numbers) for _ in v.choices] for i, v in enumerate(space.variables)}
        costs[cost] = {"base": draw(numbers), "table": table}
    space = CategoricalSpace("small", space.variables, costs=costs)
    example = space.cost(draw(st.sampled_from(list(space.all()))))
    names = draw(st.sampled_from([("flops",), ("params",), COSTS]))
    return space, {name: example[name] for name in names}


def allowed(space: CategoricalSpace, limits: dict[str, float]) -> list[Architecture]:
    costs = {arch: space.cost(arch) for arch in space.all()}
    return [arch for arch, known in costs.items() if all(known[name] <= x for name, x in limits.items())]


@given(capped(), st.sampled_from(ENCODINGS), st.integers(0, 99), st.sampled_from([1, 3, 100]))
@settings(deadline=None, max_examples=150)
def test_counts_are_those_of_the_affordable_ones(
    given_: tuple[CategoricalSpace, dict[str, float]], encoding: Encoding, seed: int, room: int
) -> None:
    """Every prefix of every spelling, affordable or not: exact up to the room, and never too many."""
    (space, limits), rng = given_, Random(seed)
    good = allowed(space, limits)
    gone = {arch for arch in good if rng.random() < 0.3}
    mask = Remaining(space, encoding, Affordable(space, encoding, limits))
    mask.room = room
    for arch in [*gone, *space.all()][: len(gone) + 5]:
        if arch in gone or arch not in good:  # what is over a cap was never counted
            mask.exclude(arch)
    left = [space.format(arch, encoding) + END for arch in good if arch not in gone]
    texts = [space.format(arch, encoding) + END for arch in space.all()]
    prefixes = sorted({text[:end] for text in texts for end in range(len(text) + 1)}, key=lambda _: rng.random())
    for prefix in prefixes:
        true = sum(text.startswith(prefix) for text in left)
        assert min(true, room) <= mask.count(prefix) <= true, prefix


@given(capped())
@settings(deadline=None, max_examples=150)
def test_what_is_surely_within_is_never_too_many(given_: tuple[CategoricalSpace, dict[str, float]]) -> None:
    space, limits = given_
    tree, good = Affordable(space, "compact", limits), allowed(space, limits)
    for prefix in {arch.choices[:end] for arch in space.all() for end in range(len(arch.choices) + 1)}:
        true = sum(arch.choices[: len(prefix)] == prefix for arch in good)
        found = tree.completions(prefix)
        assert found.any_within(tree.limits) == (true > 0)
        assert found.all_within(tree.limits) == (true == space.count(prefix))
        assert true == 0 or 1 <= found.surely_within(tree.limits) <= true


@given(capped(), st.sampled_from(ENCODINGS))
@settings(deadline=None, max_examples=60)
def test_terms_and_rows_agree(given_: tuple[CategoricalSpace, dict[str, float]], encoding: Encoding) -> None:
    space, limits = given_
    part = space.restrict(space.all())
    assert maskable(part, limits) == maskable(space, limits) == limits
    listed, stated = within(part, encoding, limits, space.cost), within(space, encoding, limits, space.cost)
    assert listed.count("") == len(allowed(space, limits)) >= stated.count("") > 0
    for arch in space.all():
        text = space.format(arch, encoding) + END
        assert listed.count(text) == stated.count(text)


def walk(mask: Remaining, rng: Random) -> str:
    """A random spelling, choice by choice, of those that the mask leaves."""
    text, node = "", ()
    while len(node) < len(mask.space.variables):
        open_ = [(symbol, child) for symbol, child in mask._children(node) if mask.count(text + symbol)]
        assert open_, f"dead end after {text!r}"
        symbol, node = rng.choice(open_)
        text += symbol
    return text.removesuffix(END)


HARD = ["ofa-mbv3", "cifar-mbconv", "autoformer-tiny", "spos-shufflenet"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("names", [("flops",), COSTS])
@pytest.mark.parametrize("name", HARD)
def test_walks_in_large_spaces_never_end_dead(name: str, names: tuple[str, ...], encoding: Encoding) -> None:
    space, rng = spaces.load(name), Random(0)
    sampled = [space.cost(space.sample(rng)) for _ in range(200)]
    limits = {cost: sorted(known[cost] for known in sampled)[10] for cost in names}
    mask = within(space, encoding, limits, space.cost)
    seen = set()
    for _ in range(4):
        arch = space.parse(walk(mask, rng), encoding)
        assert all(space.cost(arch)[cost] <= limit for cost, limit in limits.items())
        mask.exclude(arch)
        assert mask.count(space.format(arch, encoding)) == 0
        seen.add(arch)
    assert len(seen) == 4
    for _ in range(200):  # what the cap allows is admitted, and nothing else
        arch = space.sample(rng)
        fits = all(space.cost(arch)[cost] <= limit for cost, limit in limits.items())
        assert mask.count(space.format(arch, encoding) + END) == (fits and arch not in seen)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_handful_left_in_a_space_of_10_to_the_20(encoding: Encoding) -> None:
    """Just above the cheapest, all that fits is found by walking, each once, and then nothing is left."""
    space, rng = spaces.load("ofa-mbv3"), Random(0)
    least = cheapest(space, "flops")
    assert least is not None
    mask = within(space, encoding, {"flops": least * 1.005}, space.cost)
    found = []
    while mask.count(""):
        found.append(space.parse(walk(mask, rng), encoding))
        mask.exclude(found[-1])
    assert len(found) == len(set(found)) >= 3
    assert min(space.cost(arch)["flops"] for arch in found) == least
    near = {other for arch in found for other in space.neighbors(arch)}  # no neighbour that fits was left out
    assert {arch for arch in near if space.cost(arch)["flops"] <= least * 1.005} <= {*found}


def test_two_caps_that_only_meet_in_the_middle() -> None:
    """Each choice trades one cost for the other: every prefix meets each cap alone, few meet both."""
    variables = [Variable(f"v{i}", ("a", "b", "c")) for i in range(24)]
    rng = Random(0)
    cost = [[(x := rng.randrange(50)), 50 - x, rng.randrange(20, 40)] for _ in variables]
    tables = {
        "flops": dict(enumerate(cost)),
        "params": {i: [50 - x for x in row] for i, row in enumerate(cost)},
    }
    space = CategoricalSpace(
        "s", variables, costs={name: {"base": 0, "table": table} for name, table in tables.items()}
    )
    assert within(space, "compact", {"flops": 599.0, "params": 600.0}, space.cost).count("") == 0  # their sum is 1200
    mask = within(space, "compact", {"flops": 600.0, "params": 600.0}, space.cost)
    for _ in range(5):
        arch = space.parse(walk(mask, rng), "compact")
        assert space.cost(arch) == {"flops": 600, "params": 600}
        mask.exclude(arch)


def test_a_cap_on_a_rounded_sum_is_the_runners() -> None:
    """0.1 + 0.2 + 0.3 is 0.6 rounded once and 0.6000000000000001 rounded twice: mask and cost must agree."""
    table = {i: [value, 9.0] for i, value in enumerate((0.1, 0.2, 0.3))}
    space = CategoricalSpace(
        "s", [Variable(f"v{i}", ("a", "b")) for i in range(3)], costs={"flops": {"base": 0, "table": table}}
    )
    value = space.cost(space.make((0, 0, 0)))["flops"]
    for limit in (value, value * (1 - 1e-16), value * (1 - 2e-16)):
        assert within(space, "compact", {"flops": limit}, space.cost).count("") == (value <= limit)


def test_repeats_have_room_for_every_row() -> None:
    space = spaces.load("spos-shufflenet")
    least = cheapest(space, "params")
    assert least is not None
    mask: TextMask = Repeatable(within(space, "compact", {"params": least}, space.cost))
    text = next(t for t in ("a" + c for c in "0123") if mask.count(t))
    assert mask.count("") == mask.count(text) > 10**9
    assert mask.count("a" + ("1" if text == "a0" else "0")) == 0


def test_what_can_be_masked() -> None:
    limits = {"flops": 1.0, "params": 1.0, "latency": 1.0}
    assert maskable(spaces.load("ofa-mbv3"), limits) == {"flops": 1.0, "params": 1.0}
    wide = CategoricalSpace("s", [Variable(f"v{i}", ("a", "b")) for i in range(30)], costs={"flops": {}})
    assert maskable(wide, limits) == {"flops": 1.0}
    assert maskable(wide.restrict([wide.make([0] * 30)]), limits) == {"flops": 1.0, "params": 1.0}


def test_cost_does_not_grow_with_the_history() -> None:
    space, rng = spaces.load("ofa-mbv3"), Random(0)
    known = sorted((space.cost(arch)["flops"], arch.choices) for arch in (space.sample(rng) for _ in range(6000)))
    limit = known[3000][0]
    archs = [Architecture(space.name, choices) for _, choices in known[:3000]]

    def seconds(excluded: int) -> float:
        mask = within(space, "compact", {"flops": limit}, space.cost)
        for arch in archs[:excluded]:
            mask.exclude(arch)
        walk(mask, Random(1))
        start = time.process_time()
        for seed in range(3):
            walk(mask, Random(seed))
        return time.process_time() - start

    assert seconds(3000) < 3 * seconds(10) + 0.2
