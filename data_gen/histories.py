"""Simulated searches on a synthetic landscape: the situations in which a Navigator is asked.

The policy is deliberately mixed. After a random start, some searches change a few variables of the best known points,
partly towards the optimum; some take draws from the ridge posterior (Thompson), others draw from the evidence that the
digest shows, as a search by the trained model nearly does. A model must meet good and poor histories alike, for its
own searches will be both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from collm_nas.evaluators.landscape import Floats, Ints, Landscape
from collm_nas.evidence import draw, every_change, local_from_rows, normal_ranks, ridge_from_rows
from collm_nas.surrogate import Fit, fit

BATCH = 5
LOCAL, THOMPSON = 0.5, 0.15  # shares of the searches that follow the digest's evidence, and the ridge posterior
LENGTHS = (0, 5, 10, 20, 40, 60, 80, 120)
LONG_LENGTHS = (*LENGTHS, 180, 240)  # for spaces that take longer to search
LONG_FROM = 13


@dataclass(frozen=True, slots=True)
class History:
    """Distinct points in order, x_MV, with noisy fitness y_M, and where each round after the random start begins."""

    x_MV: Ints
    y_M: Floats
    starts: tuple[int, ...]

    def cut(self, length: int) -> History:
        """The history as it was after `length` evaluations."""
        return History(self.x_MV[:length], self.y_M[:length], tuple(s for s in self.starts if s < length))


def simulate(made: Landscape, optimum_V: Ints, length: int, rng: np.random.Generator) -> History:
    """A search of up to `length` distinct points (fewer where the space or the cap leaves fewer)."""
    seen: dict[tuple[int, ...], float] = {}
    starts: list[int] = []
    guidance = rng.uniform(0, 0.5)
    way = rng.random()
    evident = _Evident(rng.uniform(0.2, 1.0))
    _add(made, made.random_points(int(rng.integers(5, 25)), rng), seen, rng)
    for _ in range(3 * length // BATCH):
        if len(seen) >= length:
            break
        if way < LOCAL and seen:
            batch_NV = evident.batch(made, seen, rng)
        elif way < LOCAL + THOMPSON and seen:
            batch_NV = _thompson(made, seen, rng)
        else:
            points = sorted(seen, key=seen.__getitem__, reverse=True)[:5]
            best_NV = np.array(points[: int(rng.integers(1, 6))])
            batch_NV = _mutate(made, best_NV, optimum_V, guidance, rng)
        start = len(seen)
        _add(made, batch_NV, seen, rng)
        if len(seen) > start:
            starts.append(start)
    x_MV = np.array(list(seen), dtype=np.int64).reshape(-1, len(made.sizes))
    return History(x_MV, np.array(list(seen.values())), tuple(starts))


def _add(made: Landscape, x_NV: Ints, seen: dict[tuple[int, ...], float], rng: np.random.Generator) -> None:
    """Evaluate the feasible new ones, with noise."""
    x_NV = x_NV[made.feasible(x_NV)]
    if len(x_NV):
        y_N = made.value(x_NV) + made.noise * rng.standard_normal(len(x_NV))
        for row, value in zip(map(tuple, x_NV.tolist()), y_N.tolist(), strict=True):
            seen.setdefault(row, value)


def _mutate(made: Landscape, best_NV: Ints, optimum_V: Ints, guidance: float, rng: np.random.Generator) -> Ints:
    """A batch of copies of the best with one to three variables changed, each towards the optimum with some chance."""
    v = len(made.sizes)
    batch_NV = best_NV[rng.integers(0, len(best_NV), BATCH)].copy()
    for row_V in batch_NV:
        for i in rng.integers(0, v, int(rng.integers(1, 4))):
            guided = rng.random() < 0.6 * guidance
            row_V[i] = optimum_V[i] if guided else rng.integers(0, made.sizes[i])
    return made.canonical(batch_NV)


def _thompson(made: Landscape, seen: dict[tuple[int, ...], float], rng: np.random.Generator) -> Ints:
    """A batch of draws from the ridge posterior, each with its best choice in every variable; what was seen already
    changes in one or two variables."""
    starts = made.offsets()
    fit = ridge_from_rows(made.one_hot(np.array(list(seen))), list(seen.values()), starts)
    batch_NV = np.zeros((BATCH, len(made.sizes)), dtype=np.int64)
    for row_V in batch_NV:
        weights_D = draw(fit, rng)
        for v, size in enumerate(made.sizes):
            row_V[v] = weights_D[starts[v] : starts[v] + size].argmax()
    return _shaken(made, batch_NV, seen, rng)


def _shaken(made: Landscape, batch_NV: Ints, seen: dict[tuple[int, ...], float], rng: np.random.Generator) -> Ints:
    """What was seen already changes in one or two variables."""
    batch_NV = made.canonical(batch_NV)
    for row_V in batch_NV:
        if tuple(row_V.tolist()) in seen:
            for i in rng.integers(0, len(made.sizes), int(rng.integers(1, 3))):
                row_V[i] = rng.integers(0, made.sizes[i])
    return made.canonical(batch_NV)


@dataclass(slots=True)
class _Evident:
    """Draws around the best known point: for each variable the choice of the highest gain under the digest's beliefs,
    with their deviations times `spread` as noise. Hyper-parameters are fitted anew as the history grows by half."""

    spread: float
    fitted: Fit | None = None
    at: int = 0

    def batch(self, made: Landscape, seen: dict[tuple[int, ...], float], rng: np.random.Generator) -> Ints:
        x_MV, y_M = np.array(list(seen)), np.array(list(seen.values()))
        if self.fitted is None or len(y_M) >= 1.5 * self.at:
            self.fitted, self.at = fit(made.one_hot(x_MV), normal_ranks(y_M)), len(y_M)
        batch_NV = drawn_from_evidence(made, x_MV, y_M, self.fitted, np.full(4 * BATCH, self.spread), rng)
        new = [i for i, row in enumerate(batch_NV.tolist()) if tuple(row) not in seen]
        return _shaken(made, batch_NV[[*new, *range(BATCH)][:BATCH]], seen, rng)


def fresh(made: Landscape, history: History, x_NV: Ints) -> Ints:
    """Those of the points that are feasible and were not evaluated, each once, in a fixed order."""
    seen = set(map(tuple, history.x_MV.tolist()))
    x_NV = np.unique(x_NV, axis=0)
    x_NV = x_NV[[row not in seen for row in map(tuple, x_NV.tolist())]]
    return x_NV[made.feasible(x_NV)]


def drawn_from_evidence(
    made: Landscape, x_MV: Ints, y_M: Floats, fitted: Fit | None, spread_N: Floats, rng: np.random.Generator
) -> Ints:
    """Draws around the best of the evaluated points `x_MV`, shape (N, V): in each variable the choice of the highest
    gain that the digest's evidence believes in, with `spread_N` times its deviation as noise.
    `fitted`: hyper-parameters; None: the digest's own."""
    starts = made.offsets()
    changes_DD, own_V = _changes(made, x_MV[y_M.argmax()])
    found = local_from_rows(made.one_hot(x_MV), y_M, starts, changes_DD, own_V, fitted)
    drawn_ND = found.mean_D + spread_N[:, None] * rng.standard_normal((len(spread_N), starts[-1])) * found.sd_D
    columns = [drawn_ND[:, a:b].argmax(1) for a, b in pairwise(starts)]
    return made.canonical(np.stack(columns, axis=1))


def _changes(made: Landscape, best_V: Ints) -> tuple[Floats, list[int]]:
    """One-hot rows of every single change of a point (an inactive variable's with its parents switched on), and the
    point's own choices, -1 where inactive."""
    on_V = made.active(best_V[None])[0]
    base_VV = np.repeat(best_V[None], len(best_V), axis=0)
    for v in np.flatnonzero(~on_V):
        child = v
        while (parent := made.parents[child]) >= 0:
            base_VV[v, parent] = max(base_VV[v, parent], made.thresholds[child])
            child = parent
    return made.one_hot(every_change(base_VV, made.sizes)), np.where(on_V, best_V, -1).tolist()
