"""What evaluations say about choices: a ridge regression on one-hot variables, shared by the digest and by
`digest-only`.

The sampler without a model (`optimizers.digest_only`) must have exactly the model's evidence; so it is computed
once, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import Architecture, SearchSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ridge:
    """Posterior over one-hot weights: `mean_D`, `cov_DD` (noise variance 1 in units of normal ranks), `counts_D`.

    D is the number of (variable, choice) pairs; `offsets[i]` is where variable i begins.
    """

    mean_D: Floats
    cov_DD: Floats
    counts_D: NDArray[np.int64]
    offsets: tuple[int, ...]

    def effect(self, variable: int, choice: int) -> float:
        """Posterior mean effect of a choice, in standard deviations of the ranks."""
        return float(self.mean_D[self.offsets[variable] + choice])


def offsets(space: SearchSpace) -> tuple[int, ...]:
    """Where each variable's choices begin in a one-hot row; the last entry is the row's length."""
    ends = [0]
    for variable in space.variables:
        ends.append(ends[-1] + len(variable.choices))
    return tuple(ends)


def one_hot(space: SearchSpace, archs: Sequence[Architecture]) -> Floats:
    """One row an architecture, shape (N, D); an inactive variable contributes zeros."""
    starts = offsets(space)
    rows_ND = np.zeros((len(archs), starts[-1]))
    for row_D, arch in zip(rows_ND, archs, strict=True):
        for i, on in enumerate(space.active(arch.choices)):
            if on:
                row_D[starts[i] + arch.choices[i]] = 1.0
    return rows_ND


@lru_cache(maxsize=64)
def _normal_quantiles(n: int) -> Floats:
    from statistics import NormalDist

    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def normal_ranks(values: Sequence[float] | Floats) -> Floats:
    """Scores replaced by the normal quantiles of their ranks, ties by their mean; shape (N,)."""
    values_N = np.asarray(values, dtype=float)
    if len(values_N) == 0:
        return values_N
    distinct, inverse_N = np.unique(values_N, return_inverse=True)
    order_N = np.argsort(values_N, kind="stable")
    ranks_N = np.empty(len(values_N))
    ranks_N[order_N] = _normal_quantiles(len(values_N))
    if len(distinct) == len(values_N):
        return ranks_N
    sums = np.bincount(inverse_N, weights=ranks_N)
    means: Floats = (sums / np.bincount(inverse_N))[inverse_N]
    return means


def ridge_from_rows(
    rows_ND: Floats, values: Sequence[float] | Floats, starts: tuple[int, ...], lam: float = 1.0
) -> Ridge:
    """Ridge regression (penalty `lam`) of normal ranks on one-hot rows."""
    gram_DD = rows_ND.T @ rows_ND
    cov_DD = np.linalg.inv(gram_DD + lam * np.eye(gram_DD.shape[0])).astype(np.float64, copy=False)
    mean_D = cov_DD @ (rows_ND.T @ normal_ranks(values))
    return Ridge(mean_D, cov_DD, rows_ND.sum(0).astype(np.int64), starts)


def ridge(space: SearchSpace, archs: Sequence[Architecture], values: Sequence[float], lam: float = 1.0) -> Ridge:
    """The evidence of these evaluations; all zero (prior) where there are none."""
    return ridge_from_rows(one_hot(space, archs), np.asarray(values, dtype=float), offsets(space), lam)


def draw(fit: Ridge, rng: Any) -> Floats:
    """One sample of the weights from the posterior (Thompson), shape (D,); `rng` is a NumPy Generator."""
    chol_DD = np.linalg.cholesky(fit.cov_DD + 1e-9 * np.eye(len(fit.mean_D)))
    sample: Floats = fit.mean_D + chol_DD @ rng.standard_normal(len(fit.mean_D))
    return sample
