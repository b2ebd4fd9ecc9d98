"""The labeller that knows the landscape: the answer is the truth, whatever the history shows of it.

Trained on such pairs by plain cross-entropy, a model's distribution becomes the posterior of where the best
architectures
are given a digest; sampling from it is amortised Thompson sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collm_nas.api import Architecture
from collm_nas.evaluators.landscape import Floats, Ints, Landscape
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import ANCHORS, ROAM_STEPS, Direction, Strategy
from data_gen.histories import History

BEST = 20
TEMPERATURE = 3.0  # ranks: member r of the best is taken with weight exp(-r / 3)


@dataclass(frozen=True, slots=True)
class Truth:
    """The landscape's best feasible points, best first, x_BV (at most 20), with sampling weights w_B."""

    x_BV: Ints
    weight_B: Floats


def find_optimum(made: Landscape, rng: np.random.Generator) -> Ints:
    """Best of coordinate ascents from random points, on the noise-free value."""
    starts_NV = made.random_points(4, rng)
    peaks_NV = made.climb(starts_NV)
    value_N = np.where(made.feasible(peaks_NV), made.raw(peaks_NV), -np.inf)
    best: Ints = peaks_NV[value_N.argmax()]
    return best


def truth(made: Landscape, optimum_V: Ints) -> Truth:
    """The best 20: from the optimum, twice, take all members and their neighbours and keep the best."""
    x_BV = optimum_V[None]
    for _ in range(2):
        pool_NV = np.unique(np.concatenate([x_BV, made.neighbors(x_BV)]), axis=0)
        pool_NV = pool_NV[made.feasible(pool_NV)]
        x_BV = pool_NV[np.argsort(-made.raw(pool_NV), kind="stable")[:BEST]]
    weight_B = np.exp(-np.arange(len(x_BV)) / TEMPERATURE)
    return Truth(x_BV, weight_B / weight_B.sum())


def strategy(
    made: Landscape, space: CategoricalSpace, known: Truth, history: History, rng: np.random.Generator
) -> Strategy:
    """The strategy that leads to the best 20: the optimum and two more of them, the commonest choices, how far they
    spread, and why."""
    others = rng.permutation(np.arange(1, len(known.x_BV)))  # fewer than wanted only in a tiny space
    if len(others) >= ANCHORS:
        others = rng.choice(others, ANCHORS - 1, replace=False, p=known.weight_B[others] / known.weight_B[others].sum())
    picks = [0, *sorted(others)[: ANCHORS - 1]]
    picks += [picks[-1]] * (ANCHORS - len(picks))
    anchors_AV = known.x_BV[picks]
    distance_BA = (known.x_BV[:, None] != anchors_AV[None]).sum(2)
    spread = float((distance_BA.min(1) * known.weight_B).sum()) / len(made.sizes)
    roam = min(ROAM_STEPS - 1, round(8 * spread))
    anchors = tuple(architecture(space, a) for a in anchors_AV)
    return Strategy(anchors, _directions(made, known), roam, _reason(made, known.x_BV[0], history))


def architecture(space: CategoricalSpace, x_V: Ints) -> Architecture:
    """A canonical row of choices as an `Architecture`."""
    return Architecture(space.name, tuple(x_V.tolist()))


def _directions(made: Landscape, known: Truth) -> tuple[Direction, ...]:
    on_BV = made.active(known.x_BV)
    directions = []
    for v, size in enumerate(made.sizes):
        weight_K = np.bincount(known.x_BV[on_BV[:, v], v], weights=known.weight_B[on_BV[:, v]], minlength=size)
        if weight_K.sum() == 0:  # switched off in all of the best: nothing to say
            directions.append(Direction(0, 0, 0))
            continue
        share_K = weight_K / weight_K.sum()
        order = np.argsort(-share_K, kind="stable")
        second = int(order[1]) if share_K[order[1]] > 0 else int(order[0])
        settled = 3 - min(3, int(5 * (1 - share_K[order[0]]) + 1e-9))
        directions.append(Direction(int(order[0]), second, settled))
    return tuple(directions)


def _reason(made: Landscape, best_V: Ints, history: History) -> int:
    """The number of the reason (`strategy.REASONS`): how far the truth lies from the best one found."""
    if len(history.y_M) < 5:
        return 0
    distance = int((history.x_MV[history.y_M.argmax()] != best_V).sum())
    if distance <= 1:
        return 3
    if made.cap is not None and made.cost(best_V[None])[0] > 0.95 * made.cap:
        return 4
    return 2 if distance <= len(best_V) / 2 else 1
