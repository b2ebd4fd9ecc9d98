"""The mask behind `new` against brute force, and on spaces that brute force can't reach."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas.api import END, Encoding, UserError, Variable
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces.base import CategoricalSpace
from tests.inference.small import parts

ENCODINGS: tuple[Encoding, ...] = ("compact", "native")


@given(space=parts(), encoding=st.sampled_from(ENCODINGS), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_counts_equal_brute_force_for_every_prefix(space: CategoricalSpace, encoding: Encoding, seed: int) -> None:
    rng = Random(seed)
    archs = list(space.all())
    gone = [arch for arch in archs if rng.random() < 0.4]
    mask = Remaining(space, encoding)
    for arch in gone:
        mask.exclude(arch)
        mask.exclude(arch)  # a second time counts once
    left = [space.format(arch, encoding) + END for arch in archs if arch not in set(gone)]
    texts = [space.format(arch, encoding) + END for arch in archs]
    prefixes = {text[:end] for text in texts for end in range(len(text) + 1)}
    prefixes |= {text + junk for text in list(prefixes)[:40] for junk in ("a", "0", "x", END, " ")}
    for prefix in sorted(prefixes, key=lambda _: rng.random()):
        assert mask.count(prefix) == sum(text.startswith(prefix) for text in left), prefix
    assert sorted(mask.strings(len(left)) or []) == sorted(text.removesuffix(END) for text in left)
    assert mask.strings(len(left) - 1) is None


def wide(variables: int = 20, choices: int = 10) -> CategoricalSpace:
    return CategoricalSpace("wide", [Variable(f"v{i}", tuple(map(str, range(choices)))) for i in range(variables)])


def test_large_spaces_are_counted_exactly_and_the_mask_is_live() -> None:
    space = wide()
    mask = Remaining(space, "compact")
    assert mask.count("") == 10**20
    arch = space.sample(Random(0))
    text = space.format(arch, "compact")
    assert mask.count(text + END) == 1
    mask.exclude(arch)
    assert mask.count("") == 10**20 - 1
    assert mask.count(text[:38]) == 9
    assert mask.strings(1000) is None
    assert mask.count(text) == mask.count(text + END) == 0


def test_cost_does_not_grow_with_the_history() -> None:
    space, rng = wide(), Random(0)

    def seconds(excluded: int) -> float:
        mask = Remaining(space, "compact")
        for _ in range(excluded):
            mask.exclude(space.sample(rng))
        texts = [space.format(space.sample(rng), "compact") for _ in range(200)]
        start = time.process_time()
        for text in texts:
            for end in range(0, len(text), 2):
                mask.count(text[:end])
        return time.process_time() - start

    few, many = min(seconds(10) for _ in range(3)), min(seconds(5000) for _ in range(3))
    assert many < 3 * few + 0.05


def test_an_architecture_of_another_space_is_refused() -> None:
    other = CategoricalSpace("other", [Variable("a", ("x", "y"))])
    with pytest.raises(UserError, match="'other'"):
        Remaining(wide(), "compact").exclude(next(other.all()))


def test_what_the_table_does_not_hold_is_not_counted_twice() -> None:
    space = wide(2, 3)
    rows = [space.make((0, 0)), space.make((1, 2))]
    mask = Remaining(space.restrict(rows), "compact")
    mask.exclude(space.make((2, 2)))
    assert mask.count("") == 2
