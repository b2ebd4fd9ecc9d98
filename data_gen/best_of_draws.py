"""The labeller that knows the landscape but stays near the evidence: of what a search without a model might draw next,
the answer is what turns out best.

A model trained on such pairs draws as the evidence does, tilted towards what the truth favours. The optimum itself
(`full_knowledge`) is often far from all that a digest can tell, so that its likeliest choices are no good next point
(docs/LOG.md, 2026-11-27).
"""

from __future__ import annotations

import numpy as np

from collm_nas.evaluators.landscape import Ints, Landscape
from data_gen.full_knowledge import BEST
from data_gen.histories import History, drawn_from_evidence, fresh

SPREADS = (0.3, 1.0)
"""How wide the draws are, in the evidence's deviations: each by its own, evenly between these."""


def best_of_draws(
    made: Landscape,
    history: History,
    draws: int,
    rng: np.random.Generator,
    times: int = 1,
    advice_AV: Ints | None = None,
) -> list[Ints]:
    """So many times, the best of so many draws, and of half of the advice, by the noise-free value, best first, shape
    (at most 20, V): feasible, distinct, none of them evaluated. Random points where fewer than two were evaluated."""
    if len(history.y_M) < 2:
        x_NV = made.random_points(times * draws, rng)
    else:
        spread_N = rng.uniform(*SPREADS, times * draws)
        x_NV = drawn_from_evidence(made, history.x_MV, history.y_M, None, spread_N, rng)
    groups = []
    for part_NV in np.array_split(x_NV, times):
        if advice_AV is not None:
            some = rng.permutation(len(advice_AV))[: (len(advice_AV) + 1) // 2]
            part_NV = np.concatenate([part_NV, advice_AV[some]])
        groups.append(fresh(made, history, part_NV))
    return [x_NV[np.argsort(-made.raw(x_NV), kind="stable")[:BEST]] for x_NV in groups]
