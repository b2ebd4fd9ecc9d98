"""The labeller that knows the landscape or the table: the answer is the truth, whatever the history shows of it.

Trained on such pairs by plain cross-entropy, a model's distribution becomes the posterior of where the best
architectures are given a digest; sampling from it is amortised Thompson sampling.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from collm_nas.api import Architecture
from collm_nas.evaluators.landscape import Ints, Landscape

BEST = 20


def find_optimum(made: Landscape, rng: np.random.Generator) -> Ints:
    """Best of coordinate ascents from random points, on the noise-free value."""
    starts_NV = made.random_points(4, rng)
    peaks_NV = made.climb(starts_NV)
    value_N = np.where(made.feasible(peaks_NV), made.raw(peaks_NV), -np.inf)
    best: Ints = peaks_NV[value_N.argmax()]
    return best


def best_of_landscape(made: Landscape, optimum_V: Ints) -> Ints:
    """The best 20 feasible points, best first: from the optimum, twice, all members and neighbours, the best kept."""
    x_BV = optimum_V[None]
    for _ in range(2):
        pool_NV = np.unique(np.concatenate([x_BV, made.neighbors(x_BV)]), axis=0)
        pool_NV = pool_NV[made.feasible(pool_NV)]
        x_BV = pool_NV[np.argsort(-made.raw(pool_NV), kind="stable")[:BEST]]
    return x_BV


def best_of_values(values: Mapping[Architecture, float]) -> list[Architecture]:
    """The best 20 of those whose value is known, best first; ties in the order of the mapping."""
    return sorted(values, key=lambda arch: -values[arch])[:BEST]
