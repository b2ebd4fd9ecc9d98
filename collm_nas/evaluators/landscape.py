"""Synthetic landscapes: random spaces with a made-up fitness whose optimum is known. Models learn from them alone.

Main effects, pairs, choices of shared meaning, ordered choices, ruinous choices, conditions, caps, noise, three scales.
All values are drawn from the seed. Seeds from `HELD_OUT` on are for measuring, those from
`VALIDATION` on for choosing settings; training refuses both.

Shapes: N points, V variables, K choices (the largest number), P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm_nas.api import Architecture, Caps, Evaluation, Variable
from collm_nas.spaces.base import CategoricalSpace

HELD_OUT = 1_000_000_000
"""First seed of the landscapes kept for measuring."""
VALIDATION = 2_000_000_000
"""First seed of those on which settings are chosen."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How wide landscapes are drawn. Shares are probabilities."""

    variables: tuple[int, int] = (4, 12)
    large_from: int = 9  # from this many variables on, at most `large_choices` choices
    choices: tuple[int, int] = (2, 9)
    large_choices: int = 5
    equal_sizes: float = 0.6  # all variables have the same number of choices
    ordered: float = 0.3
    ruin: float = 0.4
    conditional: float = 0.15
    capped: float = 0.2
    noises: tuple[float, ...] = (0.0, 0.02, 0.1)  # in standard deviations of the landscape


@dataclass(slots=True)
class Landscape:
    """A fitness over choice positions X_NV. `value` is noise-free; conditions: `parents[v]` is -1 or an earlier
    variable."""

    sizes: Ints
    main_VK: Floats
    pairs: tuple[Ints, Ints, Floats]
    ruin: tuple[int, float]
    parents: Ints
    thresholds: Ints
    scale: tuple[float, float, str]
    noise: float
    costs_VK: Floats
    cap: float | None
    _columns: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._columns = np.arange(len(self.sizes))

    def active(self, x_NV: Ints) -> NDArray[np.bool_]:
        """Which variables are active, shape (N, V)."""
        on_NV = np.ones(x_NV.shape, dtype=bool)
        for v in np.flatnonzero(self.parents >= 0):
            parent = self.parents[v]
            on_NV[:, v] = on_NV[:, parent] & (x_NV[:, parent] >= self.thresholds[v])
        return on_NV

    def canonical(self, x_NV: Ints) -> Ints:
        """Inactive variables set to choice 0."""
        result: Ints = np.where(self.active(x_NV), x_NV, 0)
        return result

    def offsets(self) -> tuple[int, ...]:
        """Where each variable's choices begin in a one-hot row; the last entry is the row's length."""
        return (0, *np.cumsum(self.sizes).tolist())

    def one_hot(self, x_NV: Ints) -> Floats:
        """One row a point, shape (N, D); an inactive variable contributes zeros."""
        rows_ND = np.zeros((len(x_NV), int(self.sizes.sum())))
        n_NV, v_NV = np.nonzero(self.active(x_NV))
        rows_ND[n_NV, np.array(self.offsets())[v_NV] + x_NV[n_NV, v_NV]] = 1.0
        return rows_ND

    def raw(self, x_NV: Ints) -> Floats:
        """Value before scaling, shape (N,)."""
        on_NV = self.active(x_NV)
        value_N = (self.main_VK[self._columns, x_NV] * on_NV).sum(1)
        left_P, right_P, table_PKK = self.pairs
        if len(left_P):
            effect_NP = table_PKK[np.arange(len(left_P)), x_NV[:, left_P], x_NV[:, right_P]]
            value_N += (effect_NP * (on_NV[:, left_P] & on_NV[:, right_P])).sum(1)
        choice, price = self.ruin
        if price > 0:
            share_N = ((x_NV == choice) & on_NV).sum(1) / on_NV.sum(1)
            value_N -= price * len(self.sizes) * np.maximum(0.0, share_N - 0.3)
        result: Floats = value_N
        return result

    def value(self, x_NV: Ints) -> Floats:
        """Noise-free fitness, shape (N,)."""
        mean, deviation, shape = self.scale
        z_N = (self.raw(x_NV) - mean) / deviation
        if shape == "exp":
            return -np.exp(-0.7 * z_N)
        return np.tanh(z_N / 2) if shape == "tanh" else z_N

    def cost(self, x_NV: Ints) -> Floats:
        """Additive cost of the active choices, shape (N,)."""
        result: Floats = (self.costs_VK[self._columns, x_NV] * self.active(x_NV)).sum(1)
        return result

    def feasible(self, x_NV: Ints) -> NDArray[np.bool_]:
        """Which points are within the cap."""
        return np.ones(len(x_NV), dtype=bool) if self.cap is None else self.cost(x_NV) <= self.cap

    def random_points(self, n: int, rng: np.random.Generator) -> Ints:
        """Canonical points, each active variable uniform; feasible ones where a bounded number of tries finds them."""
        x_NV = self.canonical(rng.integers(0, self.sizes, size=(n, len(self.sizes))))
        for _ in range(20 if self.cap is not None else 0):
            bad_N = ~self.feasible(x_NV)
            if not bad_N.any():
                break
            fresh = rng.integers(0, self.sizes, size=(int(bad_N.sum()), len(self.sizes)))
            x_NV[bad_N] = self.canonical(fresh)
        return x_NV

    def neighbors(self, x_NV: Ints) -> Ints:
        """All one-change neighbours of each point (point by point, own duplicates possible), shape (N * changes, V)."""
        variable_C = np.repeat(self._columns, self.sizes)
        choice_C = np.concatenate([np.arange(k) for k in self.sizes])
        out_NCV = np.repeat(x_NV[:, None, :], len(variable_C), axis=1)
        out_NCV[:, np.arange(len(variable_C)), variable_C] = choice_C
        return self.canonical(out_NCV.reshape(-1, x_NV.shape[1]))

    def climb(self, starts_NV: Ints) -> Ints:
        """Best-single-change ascent on the noise-free value among feasible points, from every start."""
        x_NV = starts_NV.copy()
        best_N = np.where(self.feasible(x_NV), self.raw(x_NV), -np.inf)
        moving = np.arange(len(x_NV))
        while len(moving):
            around_MCV = self.neighbors(x_NV[moving]).reshape(len(moving), -1, x_NV.shape[1])
            flat = around_MCV.reshape(-1, x_NV.shape[1])
            value_MC = np.where(self.feasible(flat), self.raw(flat), -np.inf).reshape(len(moving), -1)
            pick_M = value_MC.argmax(1)
            top_M = value_MC[np.arange(len(moving)), pick_M]
            better_M = top_M > best_N[moving] + 1e-12
            moving, rows = moving[better_M], np.flatnonzero(better_M)
            x_NV[moving] = around_MCV[rows, pick_M[rows]]
            best_N[moving] = top_M[rows]
        return x_NV


def _main_effects(rng: np.random.Generator, sizes: Ints, family: Family) -> tuple[Floats, Floats]:
    """Centred main effects, shape (V, K), and the importance of each variable, shape (V,)."""
    n, k = len(sizes), int(sizes.max())
    own_VK = rng.standard_normal((n, k))
    if (sizes == sizes[0]).all():
        shared = float(rng.choice([0.0, 0.5, 0.8, 0.95]))
        own_VK = np.sqrt(shared) * rng.standard_normal(k) + np.sqrt(1 - shared) * own_VK
    if rng.random() < family.ordered:
        direction = rng.choice([-1.0, 1.0])  # either end may be the good one, alike in all variables
        for v, size in enumerate(sizes):
            place = direction * np.linspace(-1, 1, size)
            own_VK[v, :size] = -2 * (place - rng.normal(0.5, 0.8)) ** 2 + 0.3 * rng.standard_normal(size)
    for v, size in enumerate(sizes):
        own_VK[v, size:] = 0
        own_VK[v, :size] -= own_VK[v, :size].mean()
    importance_V = np.exp(rng.normal(0, 0.6, n))
    return own_VK * importance_V[:, None], importance_V


def _pairs(rng: np.random.Generator, importance_V: Floats, k: int) -> tuple[Ints, Ints, Floats]:
    n = len(importance_V)
    left_P, right_P = np.triu_indices(n, 1)
    kept = rng.random(len(left_P)) < min(1.0, 4 / n)
    left_P, right_P = left_P[kept], right_P[kept]
    strength = float(rng.choice([0.0, 0.2, 0.5, 0.9]))
    if strength == 0:
        left_P, right_P = left_P[:0], right_P[:0]
    table_PKK = rng.standard_normal((len(left_P), k, k)) * strength
    return left_P, right_P, table_PKK * np.sqrt(importance_V[left_P] * importance_V[right_P])[:, None, None]


def _conditions(rng: np.random.Generator, sizes: Ints, family: Family) -> tuple[Ints, Ints]:
    """Depth-like conditions: a parent switches its next one to four variables on, one more with each higher choice."""
    n = len(sizes)
    parents, thresholds = np.full(n, -1), np.zeros(n, dtype=np.int64)
    if rng.random() >= family.conditional:
        return parents, thresholds
    v = int(rng.integers(0, 3))
    while v < n - 1:
        children = min(int(rng.integers(1, 5)), int(sizes[v]) - 1, n - 1 - v)
        for j in range(children):
            parents[v + 1 + j], thresholds[v + 1 + j] = v, j + 1
        v += children + 1 + int(rng.integers(0, 3))
    return parents, thresholds


def draw_landscape(rng: np.random.Generator, family: Family) -> Landscape:
    """A random landscape of the family."""
    n = int(rng.integers(family.variables[0], family.variables[1] + 1))
    low, high = family.choices
    high = max(low, min(high, family.large_choices)) if n >= family.large_from else high
    sizes = np.full(n, rng.integers(low, high + 1))
    if rng.random() >= family.equal_sizes:
        sizes = rng.integers(low, high + 1, n)
    return draw_on(rng, family, sizes)


def draw_on(
    rng: np.random.Generator,
    family: Family,
    sizes: Ints,
    conditions: tuple[Ints, Ints] | None = None,
    costs_VK: Floats | None = None,
) -> Landscape:
    """A random landscape over variables of these sizes; conditions (`parents`, `thresholds`) and costs are drawn, too,
    unless given."""
    n = len(sizes)
    main_VK, importance_V = _main_effects(rng, sizes, family)
    ruin = (int(rng.integers(0, sizes.min())), float(rng.uniform(1, 4))) if rng.random() < family.ruin else (0, 0.0)
    parents, thresholds = _conditions(rng, sizes, family) if conditions is None else conditions
    pairs = _pairs(rng, importance_V, int(sizes.max()))
    if costs_VK is None:
        costs_VK = np.abs(0.5 * main_VK / importance_V[:, None] + rng.standard_normal(main_VK.shape))
        costs_VK *= np.exp(rng.normal(0, 0.5, n))[:, None]
    made = Landscape(
        sizes=sizes,
        main_VK=main_VK,
        pairs=pairs,
        ruin=ruin,
        parents=parents,
        thresholds=thresholds,
        scale=(0.0, 1.0, "plain"),
        noise=float(rng.choice(family.noises)),
        costs_VK=costs_VK,
        cap=None,
    )
    points_NV = made.random_points(400, rng)
    raw_N = made.raw(points_NV)
    made.scale = (float(raw_N.mean()), float(raw_N.std()) or 1.0, str(rng.choice(["plain", "plain", "exp", "tanh"])))
    if rng.random() < family.capped:
        made.cap = float(np.quantile(made.cost(points_NV), rng.uniform(0.15, 0.7)))
    return made


def space_of(made: Landscape, name: str) -> CategoricalSpace:
    """The landscape's space: anonymous variables `v1, v2, ...` with choices `0, 1, ...`, costs `flops` where capped."""
    variables = []
    for v, size in enumerate(made.sizes):
        parent = int(made.parents[v])
        on = ((parent, frozenset(range(int(made.thresholds[v]), int(made.sizes[parent])))),) if parent >= 0 else ()
        variables.append(Variable(f"v{v + 1}", tuple(str(c) for c in range(size)), on))
    costs = {}
    if made.cap is not None:
        table = {v: [float(c) for c in made.costs_VK[v, :size]] for v, size in enumerate(made.sizes)}
        costs = {"flops": {"base": 0.0, "table": table}}
    return CategoricalSpace(name, variables, description="a synthetic landscape", costs=costs)


class LandscapeEvaluator:
    """A landscape as an `api.Evaluator`: noisy fitness to the search, the noise-free value as report column `true`."""

    def __init__(self, made: Landscape, name: str, seed: int) -> None:
        self.landscape = made
        self.space = space_of(made, name)
        self.caps = Caps({"flops": made.cap} if made.cap is not None else {})
        self._seed = seed
        rng = np.random.default_rng([seed, 1])
        points_NV = made.random_points(1000, rng)
        self.median = float(np.median(made.value(points_NV)))
        peaks_NV = made.climb(points_NV[:60])
        best_NV = made.climb(made.neighbors(peaks_NV[made.raw(peaks_NV).argmax()][None]))
        ends_NV = np.concatenate([peaks_NV, best_NV])
        self._set_optimum(ends_NV[made.value(ends_NV).argmax()])

    def _set_optimum(self, x_V: Ints) -> None:
        """The best point known: of 60 ascents and one more from every neighbour of their best."""
        self.best = Architecture(self.space.name, tuple(x_V.tolist()))
        self.optimum = float(self.landscape.value(x_V[None])[0])

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """Fitness with noise that is fixed for each architecture."""
        # One by one: in a batch the order of summation, and so the last bit, could depend on its size.
        values = [self.landscape.value(np.array([a.choices]))[0] for a in archs]
        noises = [np.random.default_rng([self._seed, 2, *a.choices]).standard_normal() for a in archs]
        return [
            Evaluation(float(v + self.landscape.noise * e), self.costs(a), source="landscape")
            for v, e, a in zip(values, noises, archs, strict=True)
        ]

    def costs(self, arch: Architecture) -> dict[str, float]:
        """Costs known before evaluation: the space's."""
        return self.space.cost(arch)

    def report(self, arch: Architecture) -> dict[str, float]:
        """The noise-free value."""
        return {"true": float(self.landscape.value(np.array([arch.choices]))[0])}

    def protocol(self) -> dict[str, Any]:
        """What identifies the landscape: its seed (and so all its values)."""
        return {
            "source": "synthetic landscape",
            "landscape_seed": self._seed,
            "fitness": "noisy value",
            "report": ["true"],
        }


def draw(seed: int, *, variables: int | None = None, family: Family | None = None) -> LandscapeEvaluator:
    """The landscape of this seed; `variables` fixes their number (choices 2 to 5 from 9 variables on)."""
    family = family or Family()
    if variables is not None:
        from dataclasses import replace

        family = replace(family, variables=(variables, variables))
    made = draw_landscape(np.random.default_rng([seed, 0]), family)
    return LandscapeEvaluator(made, f"landscape-{seed}", seed)
