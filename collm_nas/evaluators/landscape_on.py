"""Invented fitness on a real space: its exact variables, conditions and costs, and nothing of any real network.

Shapes: V variables, K choices (the largest number), N points.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from collm_nas.api import Architecture, Caps, UserError
from collm_nas.evaluators.landscape import Family, Floats, Ints, Landscape, LandscapeEvaluator, draw_on
from collm_nas.evidence import one_hot
from collm_nas.spaces.base import CategoricalSpace

COST = "flops"
_SAMPLED = 400  # architectures that say how costs spread
_STARTS, _LEAST_SCORED = 8, 3
_PRICES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0)  # fitness given up for a standard deviation of cost


def conditions(space: CategoricalSpace) -> tuple[Ints, Ints]:
    """`parents` and `thresholds` of `Landscape`; UserError where a variable depends on more than a depth."""
    parents, thresholds = np.full(len(space.variables), -1), np.zeros(len(space.variables), dtype=np.int64)
    for v, variable in enumerate(space.variables):
        if not variable.active_if:
            continue
        (parent, allowed), *others = variable.active_if
        least = min(allowed)
        if others or allowed != frozenset(range(least, len(space.variables[parent].choices))):
            raise UserError(
                f"no landscape can be drawn on {space.name}: {variable.name!r} depends on more than whether one "
                "variable is large enough"
            )
        parents[v], thresholds[v] = parent, least
    return parents, thresholds


@lru_cache(maxsize=8)
def additive_costs(space: CategoricalSpace) -> Floats:
    """Costs as a sum over choices, fitted to random architectures, in standard deviations, shape (V, K); 0 where the
    space has none."""
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(_SAMPLED)]
    costs_N = np.array([space.cost(arch).get(COST, 0.0) for arch in archs])
    rows_ND = one_hot(space, archs)
    z_N = (costs_N - costs_N.mean()) / (costs_N.std() or 1.0)
    weights_D = np.linalg.solve(rows_ND.T @ rows_ND + 0.1 * np.eye(rows_ND.shape[1]), rows_ND.T @ z_N)
    sizes = [len(variable.choices) for variable in space.variables]
    costs_VK = np.zeros((len(sizes), max(sizes)))
    for v, (part, size) in enumerate(zip(np.split(weights_D, np.cumsum(sizes)[:-1]), sizes, strict=True)):
        costs_VK[v, :size] = part
    return costs_VK


def draw_on_space(space: CategoricalSpace, rng: np.random.Generator, family: Family) -> Landscape:
    """A landscape over the space's variables and conditions, with additive costs and, perhaps, a cap on them."""
    sizes = np.array([len(variable.choices) for variable in space.variables])
    return draw_on(rng, family, sizes, conditions(space), additive_costs(space))


class SpaceLandscapeEvaluator(LandscapeEvaluator):
    """`LandscapeEvaluator` on a real space, whose own costs count; `quantile`: a cap at that share of random ones."""

    def __init__(self, space: CategoricalSpace, seed: int, quantile: float | None = None) -> None:
        """Raises UserError where the space has conditions that no landscape has, or no cost to cap."""
        rng = np.random.default_rng([seed, 0])
        self.landscape = draw_on_space(space, rng, Family(capped=0.0))
        self.space = space
        self._seed = seed
        drawn = [space.sample(random.Random(f"{seed}/{i}")) for i in range(_SAMPLED)]
        costs = [space.cost(arch) for arch in drawn]
        if quantile is not None and COST not in costs[0]:
            raise UserError(f"--cap-quantile: the space {space.name!r} has no cost {COST!r}")
        self.caps = Caps({} if quantile is None else {COST: float(np.quantile([c[COST] for c in costs], quantile))})
        feasible = [arch for arch, cost in zip(drawn, costs, strict=True) if self.caps.allow(cost)]
        self.median = float(np.median(self.landscape.value(np.array([arch.choices for arch in feasible]))))
        starts_NV = np.array([arch.choices for arch in feasible[:_STARTS]])
        self._set_optimum(self._top(starts_NV))

    def _top(self, starts_NV: Ints) -> Ints:
        """The best of ascents at several prices of cost, and from their best within the cap."""
        made = self.landscape
        if not self.caps.limits:
            peaks_NV = made.climb(starts_NV)
            around_NV = made.climb(made.neighbors(peaks_NV[made.raw(peaks_NV).argmax()][None]))
            best: Ints = around_NV[made.raw(around_NV).argmax()]
            return best
        price = made.scale[1]
        tries = [replace(made, main_VK=made.main_VK - p * price * made.costs_VK).climb(starts_NV) for p in _PRICES]
        pool_NV = np.unique(np.concatenate([starts_NV, *tries]), axis=0)
        order = np.argsort(-made.raw(pool_NV), kind="stable")
        within = [pool_NV[i] for i in order if self._feasible(pool_NV[i])][:_LEAST_SCORED]
        ends_NV = np.array([self._climb(x_V) for x_V in within])
        top: Ints = ends_NV[made.raw(ends_NV).argmax()]
        return top

    def _feasible(self, x_V: Ints) -> bool:
        return self.caps.allow(self.space.cost(Architecture(self.space.name, tuple(x_V.tolist()))))

    def _climb(self, x_V: Ints) -> Ints:
        """Best single change within the cap, repeated."""
        value = self.landscape.raw(x_V[None])[0]
        while True:
            around_NV = self.landscape.neighbors(x_V[None])
            raw_N = self.landscape.raw(around_NV)
            for i in np.argsort(-raw_N, kind="stable"):
                if raw_N[i] <= value + 1e-12:
                    return x_V
                if self._feasible(around_NV[i]):
                    x_V, value = around_NV[i], raw_N[i]
                    break

    def protocol(self) -> dict[str, Any]:
        """What identifies the landscape."""
        return {
            **super().protocol(),
            "source": f"synthetic landscape on {self.space.name}",
            "caps": dict(self.caps.limits),
        }
