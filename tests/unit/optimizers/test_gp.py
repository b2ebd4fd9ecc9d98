from __future__ import annotations

import numpy as np
import pytest

from collm_nas.api import Variable
from collm_nas.evidence import one_hot
from collm_nas.optimizers.gp import Posterior, expected_improvement
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.surrogate import Fit, fit, kernel


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Distinct points of a space whose last variables are active under half of the first one's choices."""
    on = ((0, frozenset({2, 3})),)
    variables = [Variable(f"v{i}", tuple("abcd"), on if i > 3 else ()) for i in range(6)]
    space = CategoricalSpace("s", variables)
    rng = np.random.default_rng(seed)
    return one_hot(space, list({space.sample(rng): None for _ in range(3 * n)})[:n])


@pytest.mark.parametrize("pair_share", [0.0, 0.5, 1.0])
def test_the_kernel_is_one_on_the_diagonal_and_positive(pair_share: float) -> None:
    gram_NN = kernel(rows(40), rows(40), pair_share)
    assert np.allclose(np.diag(gram_NN), 1.0)
    assert np.linalg.eigvalsh(gram_NN).min() > -1e-9


def test_the_kernel_counts_shared_variables_and_pairs() -> None:
    a, b = np.array([[1, 0, 1, 0, 1, 0]]), np.array([[1, 0, 1, 0, 0, 1]])
    assert kernel(a, b, 0.0)[0, 0] == pytest.approx(2 / 3)
    assert kernel(a, b, 1.0)[0, 0] == pytest.approx(1 / 3)


def test_a_believed_point_changes_what_a_refit_would() -> None:
    """The growing Cholesky factor gives the posterior that conditioning on the believed value from scratch gives."""
    known, pool = rows(30), rows(60, seed=1)
    targets = np.random.default_rng(2).standard_normal(30)
    fitted = Fit(0.5, 2.0, 0.05)
    grown = Posterior(fitted, known, targets, pool)
    before = grown.variance_P.copy()
    for picked in (7, 21):
        value = grown.mean_P[picked]
        grown.believe(picked)
        known, targets = np.vstack([known, pool[picked]]), np.append(targets, value)
        anew = Posterior(fitted, known, targets, pool)
        assert np.allclose(grown.mean_P, anew.mean_P)
        assert np.allclose(grown.variance_P, anew.variance_P)
    assert (grown.variance_P <= before + 1e-12).all() and grown.variance_P[7] < before[7]


def test_expected_improvement_is_the_mean_of_the_gain() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.8, 400_000)
    gain = expected_improvement(np.array([0.3]), np.array([0.64]), 0.9)[0]
    assert gain == pytest.approx(np.maximum(0, draws - 0.9).mean(), rel=0.02)


def test_the_fit_finds_pairs_where_there_are_pairs() -> None:
    known = rows(120)
    rng = np.random.default_rng(3)
    single = known @ rng.standard_normal(known.shape[1])
    weights_DD = rng.standard_normal((known.shape[1], known.shape[1]))
    pairs = np.einsum("nd,de,ne->n", known, weights_DD, known)
    shares = [fit(known, (y - y.mean()) / y.std()).pair_share for y in (single, pairs)]
    assert shares[0] < shares[1]
