"""Bayesian optimisation with a Gaussian process over one-hot variables and their pairs (`collm_nas.surrogate`),
expected improvement, batches.

A batch is filled by the kriging believer: each pick is taken to bring what the model expects, and the next one is
chosen with that; so is what is being evaluated elsewhere. The pool is every open architecture of a space of at most
20,000, else random ones and neighbours of the best. `gp-exp` and `wl-gp` are the same with another kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import Architecture, Candidate, Observation, Problem, SearchSpace
from collm_nas.evidence import normal_ranks, one_hot
from collm_nas.memory import Memory
from collm_nas.surrogate import PAIR_SHARES, Fit, Kernel, kernel, likeliest

Floats = NDArray[np.float64]
# N evaluated, P pool, D (variable, choice) pairs.

WHOLE = 20_000  # architectures; a space up to this size is scored completely
POOL_RANDOM = 1000
POOL_PARENTS = 10


@dataclass(frozen=True, slots=True)
class Similarity:
    """How architectures are compared: their rows (dense, or sparse in CSR form), a kernel, the parameters to try."""

    rows: Callable[[SearchSpace, Sequence[Architecture]], Any] = one_hot
    kernel: Kernel = kernel
    parameters: tuple[float, ...] = PAIR_SHARES


def expected_improvement(mean_P: Floats, variance_P: Floats, incumbent: float) -> Floats:
    """E[max(0, f - incumbent)] of normal beliefs."""
    from scipy.special import ndtr

    sd_P = np.sqrt(np.maximum(variance_P, 1e-12))
    z_P = (mean_P - incumbent) / sd_P
    density_P = np.exp(-0.5 * z_P**2) / np.sqrt(2 * np.pi)
    return np.asarray(sd_P * (z_P * ndtr(z_P) + density_P))


class Posterior:
    """Beliefs over a pool, extended by one believed point at a time (a growing Cholesky factor)."""

    def __init__(self, fitted: Fit, rows_ND: Any, targets_N: Floats, pool_PD: Any, kernel: Kernel = kernel) -> None:
        from scipy.linalg import solve_triangular

        self._fit, self._pool_PD, self._kernel = fitted, pool_PD, kernel
        gram_NN = fitted.scale * kernel(rows_ND, rows_ND, fitted.pair_share) + fitted.noise * np.eye(len(targets_N))
        chol_NN = np.linalg.cholesky(gram_NN)
        cross_NP = fitted.scale * kernel(rows_ND, pool_PD, fitted.pair_share)
        self._solved = [solve_triangular(chol_NN, cross_NP, lower=True, check_finite=False)]
        self.mean_P: Floats = solve_triangular(chol_NN, targets_N, lower=True) @ self._solved[0]
        self.variance_P: Floats = fitted.scale - (self._solved[0] ** 2).sum(0)

    def believe(self, picked: int) -> None:
        """Condition on `picked` having brought its expected value: the means stay, the variances fall."""
        covariance_P = (
            self._fit.scale * self._kernel(self._pool_PD[picked : picked + 1], self._pool_PD, self._fit.pair_share)[0]
        )
        for solved_NP in self._solved:
            covariance_P = covariance_P - solved_NP[:, picked] @ solved_NP
        column_P = covariance_P / np.sqrt(max(float(self.variance_P[picked]), 0.0) + self._fit.noise)
        self._solved.append(column_P[None, :])
        self.variance_P = self.variance_P - column_P**2


def believed_best(posterior: Posterior, incumbent: float, n: int) -> list[int]:
    """Positions in the pool of up to `n` points: the one of the highest expected improvement, then, as if that had
    brought its mean, the next one, and so on (kriging believer)."""
    left_P = np.ones(len(posterior.mean_P), dtype=bool)
    taken: list[int] = []
    for _ in range(min(n, len(left_P))):
        gain_P = expected_improvement(posterior.mean_P, posterior.variance_P, incumbent)
        picked = int(np.argmax(np.where(left_P, gain_P, -1.0)))
        taken.append(picked)
        left_P[picked] = False
        incumbent = max(incumbent, float(posterior.mean_P[picked]))
        posterior.believe(picked)
    return taken


class GaussianProcess:
    """`api.Optimizer`; all arithmetic in NumPy, deterministic but for the pool of a large space."""

    def __init__(self, problem: Problem, name: str = "gp", similarity: Similarity | None = None) -> None:
        self._memory = Memory(problem, name)
        self._similarity = similarity or Similarity()
        self._all: tuple[list[Architecture], Any] | None = None

    def ask(self, n: int) -> list[Candidate]:
        """The batch of highest expected improvement; random points before two evaluations."""
        if len(self._memory.values) < 2:
            return self._memory.fill([], n)
        pool, pool_PD = self._pool()
        taken = self.pick(pool, pool_PD, n) if pool else []
        return self._memory.fill(taken, n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn; points over a cap inform the model but are never the incumbent."""
        self._memory.tell(observations)

    def pick(self, pool: list[Architecture], pool_PD: Any, n: int) -> list[Architecture]:
        """Up to `n` of these (rows `pool_PD`), each where it is expected to bring most after those before."""
        known, like = list(self._memory.values), self._similarity
        rows_ND, targets_N = like.rows(self._memory.space, known), normal_ranks(list(self._memory.values.values()))
        fitted = likeliest(like.kernel, like.parameters, rows_ND, targets_N)
        if out := list(self._memory.pending):
            believed = Posterior(fitted, rows_ND, targets_N, like.rows(self._memory.space, out), like.kernel)
            known, targets_N = known + out, np.concatenate([targets_N, believed.mean_P])
            rows_ND = like.rows(self._memory.space, known)
        posterior = Posterior(fitted, rows_ND, targets_N, pool_PD, like.kernel)
        feasible = [t for arch, t in zip(known, targets_N, strict=True) if arch not in self._memory.infeasible]
        incumbent = float(max(feasible, default=targets_N.min()))
        return [pool[i] for i in believed_best(posterior, incumbent, n)]

    def _pool(self) -> tuple[list[Architecture], Any]:
        """New affordable architectures and their rows."""
        memory = self._memory
        if memory.space.size > WHOLE:
            archs = [arch for arch in dict.fromkeys(self._proposals()) if memory.is_new(arch)]
            return archs, self._similarity.rows(memory.space, archs)
        if self._all is None:
            archs = [arch for arch in memory.space.all() if memory.affordable(arch)]
            memory.rng.shuffle(archs)  # equal gains would else go to the first choices
            self._all = archs, self._similarity.rows(memory.space, archs)
        keep = [i for i, arch in enumerate(self._all[0]) if arch not in memory.visited]
        return [self._all[0][i] for i in keep], self._all[1][keep]

    def _proposals(self) -> list[Architecture]:
        memory = self._memory
        best = memory.best(POOL_PARENTS)
        near = [arch for parent in best for arch in memory.space.neighbors(parent)]
        further = [memory.mutate(parent, 2) for parent in best for _ in range(POOL_RANDOM // (2 * POOL_PARENTS))]
        return near + further + [memory.space.sample(memory.rng) for _ in range(POOL_RANDOM // 2)]


def create(problem: Problem) -> GaussianProcess:
    """Gaussian process with expected improvement."""
    return GaussianProcess(problem)
