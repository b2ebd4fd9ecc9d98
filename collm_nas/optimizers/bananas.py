"""BANANAS (White et al., arXiv 1910.11858): an ensemble of small networks predicts fitness from the paths of a cell,
independent Thompson sampling chooses among mutations of the best.

Cells (`_cells.py`) are encoded by their paths from input to output, everything else by one-hot variables, as the paper
does where a space has no paths. Differences to the paper, for budgets of about 100 on one core: five networks of two
hidden layers of 20 (scikit-learn's `MLPRegressor`, L-BFGS) in place of five of ten layers and Adam; targets are normal
ranks under the squared error; candidates are mutations by one change and by two.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import Architecture, Candidate, Observation, Problem
from collm_nas.evidence import normal_ranks, one_hot
from collm_nas.memory import Memory, stable_seed
from collm_nas.optimizers._cells import cell, output, paths

Floats = NDArray[np.float64]
# N evaluated, P pool, D features.

MEMBERS, HIDDEN, STEPS = 5, (20, 20), 100
PARENTS, POOL = 10, 200


class Bananas:
    """`api.Optimizer`; everything is fitted anew for every batch."""

    def __init__(self, problem: Problem) -> None:
        self._memory = Memory(problem, "bananas")
        self._numpy_rng = np.random.default_rng(stable_seed("bananas", problem.seed))

    def ask(self, n: int) -> list[Candidate]:
        """The `n` highest of one draw for each member of the pool; random points before two evaluations."""
        if len(self._memory.values) < 2:
            return self._memory.fill([], n)
        pool = self._pool()
        if not pool:
            return self._memory.fill([], n)
        known = list(self._memory.values)
        rows = self._encoded([*known, *pool])
        predicted_MP = self._predicted(rows[: len(known)], rows[len(known) :])
        draw_P = self._numpy_rng.normal(predicted_MP.mean(0), predicted_MP.std(0))
        return self._memory.fill([pool[i] for i in np.argsort(-draw_P, kind="stable")[:n]], n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn; points over a cap teach the ensemble, but are never parents."""
        self._memory.tell(observations)

    def _pool(self) -> list[Architecture]:
        """New affordable mutations of the best."""
        memory, best = self._memory, self._memory.best(PARENTS)
        drawn = [memory.mutate(parent, 1 + i % 2) for parent in best for i in range(POOL // PARENTS)]
        return [arch for arch in dict.fromkeys(drawn) if memory.is_new(arch)]

    def _predicted(self, rows_ND: Floats, pool_PD: Floats) -> Floats:
        """What each member expects of the pool, shape (MEMBERS, P)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        targets_N = normal_ranks(list(self._memory.values.values()))
        predicted = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
            for seed in self._numpy_rng.integers(2**31, size=MEMBERS):
                member = MLPRegressor(hidden_layer_sizes=HIDDEN, solver="lbfgs", max_iter=STEPS, random_state=int(seed))
                predicted.append(member.fit(rows_ND, targets_N).predict(pool_PD))
        return np.array(predicted)

    def _encoded(self, archs: Sequence[Architecture]) -> Floats:
        """Which paths an architecture has; without paths, its choices."""
        space = self._memory.space
        if space.edges is None:
            return one_hot(space, archs)
        found = [set(paths(cell(space, arch), output(space))) for arch in archs]
        every = sorted(set().union(*found))
        return np.array([[float(path in own) for path in every] for own in found])


def create(problem: Problem) -> Bananas:
    """An ensemble of networks with independent Thompson sampling."""
    return Bananas(problem)
