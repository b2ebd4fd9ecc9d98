"""A Gaussian process over architectures, shared by the digest (what the Navigator reads) and by the rival `gp`.

Kernel: `scale * ((1 - w) * shared / n + w * shared pairs / pairs of n)`, `shared` counting variables in which two
architectures agree (n their geometric mean number of active ones), so that it is a Bayesian linear model of main
effects and pair effects, in closed form. `w`, `scale` and the noise maximise the marginal likelihood over a small grid.
Targets are normal ranks: a table's long lower tail would else set the scale.

Shapes: N, M architectures, D (variable, choice) pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kernel = Callable[[Any, Any, float], Floats]
"""Similarity of rows (N, D) and (M, D) under one parameter, shape (N, M)."""

PAIR_SHARES = (0.0, 0.25, 0.5, 0.75, 0.95)
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
NOISES = (0.001, 0.01, 0.05, 0.2)  # variance; the targets' is about 1


def kernel(a_ND: Floats, b_MD: Floats, pair_share: float) -> Floats:
    """Similarity of one-hot rows, shape (N, M); 1 for equal rows."""
    shared_NM = a_ND @ b_MD.T
    na_N1, nb_M = a_ND.sum(1)[:, None], b_MD.sum(1)
    single_NM = shared_NM / np.sqrt(np.maximum(na_N1 * nb_M, 1.0))
    if pair_share == 0.0:
        return np.asarray(single_NM)
    pairs_of = np.maximum(na_N1 * (na_N1 - 1) * nb_M * (nb_M - 1), 1.0)
    pair_NM = shared_NM * (shared_NM - 1) / np.sqrt(pairs_of)
    return np.asarray((1 - pair_share) * single_NM + pair_share * pair_NM)


@dataclass(frozen=True, slots=True)
class Fit:
    """Hyper-parameters of highest marginal likelihood."""

    pair_share: float
    """The kernel's parameter; of another kernel (`optimizers.gp_exp`, `wl_gp`) that one's."""
    scale: float
    noise: float


PRIOR = Fit(0.5, 2.0, 0.05)
"""Before two evaluations."""


def fit(rows_ND: Floats, targets_N: Floats) -> Fit:
    """The likeliest hyper-parameters of `kernel`."""
    return likeliest(kernel, PAIR_SHARES, rows_ND, targets_N)


def likeliest(of: Kernel, parameters: Sequence[float], rows_ND: Any, targets_N: Floats) -> Fit:
    """Grid search; one eigendecomposition for each parameter of the kernel serves all scales and noises."""
    best, found = -np.inf, PRIOR
    scale_S1, noise_1O = np.array(SCALES)[:, None, None], np.array(NOISES)[None, :, None]
    for parameter in parameters:
        eigen_N, basis_NN = np.linalg.eigh(of(rows_ND, rows_ND, parameter))
        power_N = (basis_NN.T @ targets_N) ** 2
        variance_SON = scale_S1 * np.maximum(eigen_N, 0.0) + noise_1O
        likelihood_SO = -0.5 * (power_N / variance_SON + np.log(variance_SON)).sum(-1)
        s, o = np.unravel_index(int(likelihood_SO.argmax()), likelihood_SO.shape)
        if likelihood_SO[s, o] > best:
            best, found = float(likelihood_SO[s, o]), Fit(parameter, SCALES[s], NOISES[o])
    return found
