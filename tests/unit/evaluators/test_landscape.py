from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from collm_nas.evaluators.landscape import Family, draw, draw_landscape

SMALL = Family(variables=(3, 4), choices=(2, 3))


@pytest.mark.parametrize("seed", range(20))
def test_space_and_landscape_agree(seed: int) -> None:
    made = draw(seed)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        arch = made.space.sample(rng)
        x = np.array([arch.choices])
        assert (made.landscape.canonical(x) == x).all()
        assert tuple(made.landscape.active(x)[0]) == made.space.active(arch.choices)
        if made.caps.limits:
            assert made.space.cost(arch)["flops"] == pytest.approx(made.landscape.cost(x)[0])


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_of_a_small_landscape_is_the_best_of_all_points(seed: int) -> None:
    made = draw(seed, family=SMALL)
    everything = np.array(list(product(*(range(k) for k in made.landscape.sizes))))
    everything = made.landscape.canonical(everything)
    everything = everything[made.landscape.feasible(everything)]
    assert made.optimum == pytest.approx(made.landscape.value(everything).max())


def test_the_same_seed_is_the_same_landscape_and_noise_belongs_to_the_architecture() -> None:
    one, other = draw(7), draw(7)
    arch = one.space.sample(np.random.default_rng(0))
    assert one.evaluate([arch, arch])[0] == other.evaluate([arch])[0]
    assert one.optimum == other.optimum > one.median


def test_a_climb_never_leaves_the_cap() -> None:
    family = Family(capped=1.0)
    for seed in range(10):
        made = draw_landscape(np.random.default_rng(seed), family)
        peaks = made.climb(made.random_points(10, np.random.default_rng(1)))
        assert made.feasible(peaks).any()
