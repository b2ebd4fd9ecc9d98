from __future__ import annotations

import random

import numpy as np
import pytest

from collm_nas import evidence
from collm_nas.evaluators.landscape import draw


def test_normal_ranks_are_monotone_centred_and_share_ties() -> None:
    ranks = evidence.normal_ranks([3.0, 1.0, 2.0, 2.0])
    assert ranks[1] < ranks[2] == ranks[3] < ranks[0]
    assert ranks.sum() == pytest.approx(0)
    assert len(evidence.normal_ranks([])) == 0


def test_ridge_is_the_posterior_of_a_linear_model() -> None:
    space = draw(3).space
    rng = random.Random(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(30)))
    values = [rng.random() for _ in archs]
    fit = evidence.ridge(space, archs, values, lam=2.0)
    rows = evidence.one_hot(space, archs)
    expected = np.linalg.solve(rows.T @ rows + 2 * np.eye(rows.shape[1]), rows.T @ evidence.normal_ranks(values))
    assert fit.mean_D == pytest.approx(expected)
    assert fit.counts_D.sum() == sum(sum(space.active(a.choices)) for a in archs)
    assert fit.effect(0, 0) == fit.mean_D[0]


def test_draws_scatter_as_the_covariance_says() -> None:
    space = draw(3).space
    archs = [space.sample(random.Random(i)) for i in range(20)]
    fit = evidence.ridge(space, archs, list(range(20)))
    rng = np.random.default_rng(0)
    samples = np.array([evidence.draw(fit, rng) for _ in range(4000)])
    assert samples.mean(0) == pytest.approx(fit.mean_D, abs=0.08)
    assert samples.var(0) == pytest.approx(np.diag(fit.cov_DD), rel=0.15)


def test_without_evaluations_nothing_is_known() -> None:
    space = draw(3).space
    fit = evidence.ridge(space, [], [])
    assert not fit.mean_D.any()
    assert not fit.counts_D.any()
