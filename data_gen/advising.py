"""The advice that a digest may hold: what a Gaussian process would evaluate next, as the optimiser `gp-exp` does, from
a smaller pool.

Single changes, which all else in a digest speaks of, say nothing of changes that are good together alone.

Shapes: P points of the pool, D one-hot columns, V variables.
"""

from __future__ import annotations

import numpy as np

from collm_nas.evaluators.landscape import Ints, Landscape
from collm_nas.evidence import normal_ranks
from collm_nas.optimizers.gp import Posterior, expected_improvement
from collm_nas.optimizers.gp_exp import SIMILARITY
from collm_nas.surrogate import likeliest
from data_gen.histories import History, drawn_from_evidence

RANDOM, DRAWS, PARENTS = 200, 100, 8
"""Of the pool: random points, draws from the evidence (several changes at once), best points with all neighbours."""
SPREAD = 0.7


def advise(made: Landscape, history: History, n: int, rng: np.random.Generator) -> Ints:
    """Up to `n` new feasible points, shape (N, V): the one of the highest expected improvement, then, as if that had
    brought its mean, the next one, and so on. None where fewer than two were evaluated."""
    x_MV, y_M = history.x_MV, history.y_M
    if len(y_M) < 2:
        return x_MV[:0]
    pool_PV = _pool(made, history, rng)
    if len(pool_PV) == 0:
        return pool_PV
    targets_M, rows_MD, like = normal_ranks(y_M), made.one_hot(x_MV), SIMILARITY
    fitted = likeliest(like.kernel, like.parameters, rows_MD, targets_M)
    posterior = Posterior(fitted, rows_MD, targets_M, made.one_hot(pool_PV), like.kernel)
    incumbent, left_P = float(targets_M.max()), np.ones(len(pool_PV), dtype=bool)
    taken: list[int] = []
    for _ in range(min(n, len(pool_PV))):
        gain_P = expected_improvement(posterior.mean_P, posterior.variance_P, incumbent)
        taken.append(int(np.argmax(np.where(left_P, gain_P, -1.0))))
        left_P[taken[-1]] = False
        incumbent = max(incumbent, float(posterior.mean_P[taken[-1]]))
        posterior.believe(taken[-1])
    return pool_PV[taken]


def _pool(made: Landscape, history: History, rng: np.random.Generator) -> Ints:
    x_MV, y_M = history.x_MV, history.y_M
    best_NV = x_MV[np.argsort(-y_M, kind="stable")[:PARENTS]]
    drawn_NV = drawn_from_evidence(made, x_MV, y_M, None, np.full(DRAWS, SPREAD), rng)
    parts = [made.neighbors(best_NV), drawn_NV, made.random_points(RANDOM, rng)]
    pool_PV = np.unique(np.concatenate(parts), axis=0)
    seen = set(map(tuple, x_MV.tolist()))
    pool_PV = pool_PV[[row not in seen for row in map(tuple, pool_PV.tolist())]]
    return pool_PV[made.feasible(pool_PV)]
