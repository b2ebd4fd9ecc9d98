"""The advice that a digest may hold: what a Gaussian process would evaluate next, as the optimiser `gp-exp` does, from
a smaller pool.

Single changes, which all else in a digest speaks of, say nothing of changes that are good together alone.

Shapes: P points of the pool, D one-hot columns, V variables.
"""

from __future__ import annotations

import numpy as np

from collm_nas.evaluators.landscape import Ints, Landscape
from collm_nas.evidence import normal_ranks
from collm_nas.optimizers.gp import Posterior, believed_best
from collm_nas.optimizers.gp_exp import SIMILARITY
from collm_nas.surrogate import likeliest
from data_gen.histories import History, drawn_from_evidence, fresh

RANDOM, DRAWS, PARENTS = 200, 100, 8
"""Of the pool: random points, draws from the evidence (several changes at once), best points with all neighbours."""
SPREAD = 0.7


def advise(made: Landscape, history: History, n: int, rng: np.random.Generator) -> Ints:
    """Up to `n` new feasible points, shape (N, V), as `believed_best` puts them; none where fewer than two were
    evaluated."""
    x_MV, y_M = history.x_MV, history.y_M
    if len(y_M) < 2:
        return x_MV[:0]
    pool_PV = _pool(made, history, rng)
    if len(pool_PV) == 0:
        return pool_PV
    targets_M, rows_MD, like = normal_ranks(y_M), made.one_hot(x_MV), SIMILARITY
    fitted = likeliest(like.kernel, like.parameters, rows_MD, targets_M)
    posterior = Posterior(fitted, rows_MD, targets_M, made.one_hot(pool_PV), like.kernel)
    return pool_PV[believed_best(posterior, float(targets_M.max()), n)]


def _pool(made: Landscape, history: History, rng: np.random.Generator) -> Ints:
    x_MV, y_M = history.x_MV, history.y_M
    best_NV = x_MV[np.argsort(-y_M, kind="stable")[:PARENTS]]
    drawn_NV = drawn_from_evidence(made, x_MV, y_M, None, np.full(DRAWS, SPREAD), rng)
    parts = [made.neighbors(best_NV), drawn_NV, made.random_points(RANDOM, rng)]
    return fresh(made, history, np.concatenate(parts))
