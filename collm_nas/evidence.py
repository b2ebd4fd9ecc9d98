"""What evaluations say about choices, as the digest shows it: what each single change of the best architecture would
bring.

A Gaussian process of main and pair effects (`collm_nas.surrogate`) believes a mean and a standard deviation for every
change. The sampler without a model (`optimizers.digest_only`) must have exactly the model's evidence; so it is
computed once, here. Also the ridge regression on one-hot variables, evidence of the rival `ridge-thompson`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm_nas import surrogate
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
    return one_hot_choices(space, [arch.choices for arch in archs])


def one_hot_choices(space: SearchSpace, choices: Sequence[Sequence[int]]) -> Floats:
    """The same for rows of choices, which need not be canonical."""
    starts = offsets(space)
    rows_ND = np.zeros((len(choices), starts[-1]))
    for row_D, row in zip(rows_ND, choices, strict=True):
        for i, on in enumerate(space.active(row)):
            if on:
                row_D[starts[i] + row[i]] = 1.0
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


MOST = 256
"""Evaluations that the Gaussian process looks at: half of them the best, half evenly from the others."""
_FITTED = 96  # evaluations that decide its hyper-parameters, evenly by rank


@dataclass(frozen=True, slots=True)
class Local:
    """Beliefs about single changes of one architecture, the incumbent, in standard deviations of the ranks.

    `mean_D`, `sd_D`: what it would gain with another choice of one variable (0 and 0 for its own choice). A variable
    that is inactive in it is judged with its parents switched on, against the mean of its own choices. `unit`: the
    median of the deviations.
    """

    mean_D: Floats
    sd_D: Floats
    unit: float
    fitted: surrogate.Fit
    offsets: tuple[int, ...]


def local(
    space: SearchSpace, archs: Sequence[Architecture], values: Sequence[float], incumbent: Architecture | None
) -> Local:
    """Evidence of these evaluations at the incumbent; without one (nothing was evaluated) all changes are alike."""
    starts = offsets(space)
    if incumbent is None:
        return Local(np.zeros(starts[-1]), np.ones(starts[-1]), 1.0, surrogate.PRIOR, starts)
    base_VV, own_V = _switched_on(space, incumbent)
    changes_DD = one_hot_choices(space, every_change(base_VV, np.diff(starts)).tolist())
    return local_from_rows(one_hot(space, archs), values, starts, changes_DD, own_V)


def every_change(base_VV: NDArray[np.int64], sizes_V: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choices with every (variable, choice) pair put in, variable v into row v of `base_VV`; shape (D, V)."""
    at_D = np.repeat(np.arange(len(sizes_V)), sizes_V)
    changed_DV = base_VV[at_D]
    changed_DV[np.arange(len(at_D)), at_D] = np.concatenate([np.arange(k) for k in sizes_V])
    return changed_DV


def _switched_on(space: SearchSpace, incumbent: Architecture) -> tuple[NDArray[np.int64], list[int]]:
    """For each variable the incumbent's choices, with what it takes to make the variable active; and the incumbent's
    own choice in it, -1 where it is not."""
    flags = space.active(incumbent.choices)
    base_VV = np.tile(np.array(incumbent.choices, dtype=np.int64), (len(flags), 1))
    own_V = [c if on else -1 for c, on in zip(incumbent.choices, flags, strict=True)]
    for i, on in enumerate(flags):
        waiting = [] if on else [i]
        while waiting:
            for parent, allowed in space.variables[waiting.pop()].active_if:
                if base_VV[i, parent] not in allowed or not flags[parent]:
                    base_VV[i, parent] = min(allowed)
                waiting.append(parent)
    return base_VV, own_V


def local_from_rows(
    rows_ND: Floats,
    values: Sequence[float] | Floats,
    starts: tuple[int, ...],
    changes_DD: Floats,
    own_V: Sequence[int],
    fitted: surrogate.Fit | None = None,
) -> Local:
    """The same from one-hot rows: row d of `changes_DD` is the incumbent with (variable, choice) d in it; `own_V` its
    choices, -1 where inactive."""
    from scipy.linalg import solve_triangular

    values_N = np.asarray(values, dtype=float)
    kept = _kept(values_N)
    rows_ND, values_N = rows_ND[kept], values_N[kept]
    targets_N = normal_ranks(values_N)
    if fitted is None:
        few = _evenly(np.argsort(-values_N, kind="stable"), _FITTED)
        fitted = surrogate.fit(rows_ND[few], targets_N[few])
    gram_NN = fitted.scale * surrogate.kernel(rows_ND, rows_ND, fitted.pair_share)
    chol_NN = np.linalg.cholesky(gram_NN + fitted.noise * np.eye(len(rows_ND)))
    cross_ND = fitted.scale * surrogate.kernel(rows_ND, changes_DD, fitted.pair_share)
    solved_ND = solve_triangular(chol_NN, np.concatenate([cross_ND, targets_N[:, None]], axis=1), lower=True)
    solved_ND, mean_D = solved_ND[:, :-1], solved_ND[:, -1] @ solved_ND[:, :-1]
    cov_DD = fitted.scale * surrogate.kernel(changes_DD, changes_DD, fitted.pair_share) - solved_ND.T @ solved_ND
    mean_D, sd_D = _contrasts(mean_D, cov_DD, starts, own_V)
    open_D = sd_D[sd_D > 1e-9]
    return Local(mean_D, sd_D, float(np.median(open_D)) if len(open_D) else 1.0, fitted, starts)


def _contrasts(mean_D: Floats, cov_DD: Floats, starts: tuple[int, ...], own_V: Sequence[int]) -> tuple[Floats, Floats]:
    """Beliefs about changes against the own choice of their variable, or against the mean of all its choices."""
    choice_V = np.asarray(own_V)
    sizes_V = np.diff(starts)
    against_D = np.repeat(np.array(starts[:-1]) + np.maximum(choice_V, 0), sizes_V)
    shared_D = cov_DD[np.arange(len(mean_D)), against_D]
    variance_D = np.diag(cov_DD) + np.diag(cov_DD)[against_D] - 2 * shared_D
    mean_D = mean_D - mean_D[against_D]
    for v in np.flatnonzero(choice_V < 0):
        block = slice(starts[v], starts[v + 1])
        cov_KK = cov_DD[block, block]
        mean_D[block] -= mean_D[block].mean()
        variance_D[block] = np.diag(cov_KK) - 2 * cov_KK.mean(1) + cov_KK.mean()
    sd_D = np.sqrt(np.maximum(variance_D, 0.0))
    own_D = (np.array(starts[:-1]) + choice_V)[choice_V >= 0]
    mean_D[own_D] = sd_D[own_D] = 0.0
    return mean_D, sd_D


def _kept(values_N: Floats) -> NDArray[np.int64]:
    """All, or the best half of `MOST` and the other half evenly from the rest."""
    if len(values_N) <= MOST:
        return np.arange(len(values_N))
    order_N = np.argsort(-values_N, kind="stable")
    half = MOST // 2
    return np.concatenate([order_N[:half], _evenly(order_N[half:], MOST - half)])


def _evenly(order_N: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of these, evenly."""
    return order_N[np.linspace(0, len(order_N) - 1, min(most, len(order_N))).round().astype(np.int64)]


def highest(space: SearchSpace, weights_D: Floats, starts: tuple[int, ...]) -> tuple[int, ...]:
    """The choice of the highest weight among the legal ones, variable by variable; `legal_next` fixes an inactive
    one."""
    prefix: tuple[int, ...] = ()
    for start in starts[:-1]:
        prefix += (max(space.legal_next(prefix), key=lambda c: weights_D[start + c]),)
    return prefix


def total(space: SearchSpace, weights_D: Floats, starts: tuple[int, ...], arch: Architecture) -> float:
    """The sum of the weights of an architecture's active choices."""
    flags = space.active(arch.choices)
    return float(sum(weights_D[starts[i] + c] for i, c in enumerate(arch.choices) if flags[i]))
