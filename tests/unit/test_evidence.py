from __future__ import annotations

import random

import numpy as np
import pytest

from collm_nas import evidence, surrogate
from collm_nas.api import Architecture, Variable
from collm_nas.evaluators.landscape import draw
from collm_nas.optimizers.gp import Posterior
from collm_nas.spaces.base import CategoricalSpace


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


def test_gains_are_differences_of_the_process_s_beliefs() -> None:
    space = draw(3).space
    rng = random.Random(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(30)))
    values = [rng.random() for _ in archs]
    best = archs[int(np.argmax(values))]
    found = evidence.local(space, archs, values, best)
    changed = [space.make([*best.choices[:1], c, *best.choices[2:]]) for c in range(len(space.variables[1].choices))]
    rows, targets = evidence.one_hot(space, archs), evidence.normal_ranks(values)
    whole = Posterior(found.fitted, rows, targets, evidence.one_hot(space, [*changed, best]))
    expected = whole.mean_P[:-1] - whole.mean_P[-1]
    start, end = found.offsets[1:3]
    assert found.mean_D[start:end] == pytest.approx(expected, abs=1e-9)
    own = start + best.choices[1]
    assert found.mean_D[own] == found.sd_D[own] == 0.0
    assert (np.delete(found.sd_D[start:end], best.choices[1]) > 0).all()


def test_an_inactive_variable_is_judged_as_if_it_were_active() -> None:
    depth = Variable("depth", ("1", "2"))
    kernel = Variable("kernel", ("3", "5"), ((0, frozenset({1})),))
    space = CategoricalSpace("s", [depth, kernel])
    archs = [Architecture("s", x) for x in ((0, 0), (1, 0), (1, 1))]
    found = evidence.local(space, archs, [3.0, 1.0, 2.0], archs[0])
    assert found.mean_D[0] == 0.0
    assert found.mean_D[1] < 0  # deeper is worse
    assert found.mean_D[3] > 0 > found.mean_D[2]  # but there kernel 5 is the better one
    assert found.mean_D[2:].sum() == pytest.approx(0)


def test_long_histories_are_judged_by_a_bounded_number_of_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    space = draw(3).space
    rng = random.Random(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(evidence.MOST + 200)))
    assert len(archs) > evidence.MOST
    sizes = []
    kernel = surrogate.kernel
    monkeypatch.setattr(surrogate, "kernel", lambda a, b, w: sizes.append(len(a)) or kernel(a, b, w))
    evidence.local(space, archs, [rng.random() for _ in archs], archs[0])
    assert max(sizes) == evidence.MOST


def test_without_an_incumbent_all_changes_are_alike() -> None:
    space = draw(3).space
    found = evidence.local(space, [], [], None)
    assert not found.mean_D.any()
    assert len(set(found.sd_D.tolist())) == 1
