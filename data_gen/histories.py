"""Simulated searches on a synthetic landscape: the situations in which a Navigator is asked.

The policy is deliberately mixed. After a random start, some searches change a few variables of the best known points,
partly towards the optimum; others take draws from the ridge posterior (Thompson), as a search by the trained model
nearly does. A model must meet good and poor histories alike, for its own searches will be both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collm_nas.evaluators.landscape import Floats, Ints, Landscape
from collm_nas.evidence import draw, ridge_from_rows

BATCH = 5
THOMPSON = 0.4  # share of the searches that follow the ridge posterior
LENGTHS = (0, 5, 10, 20, 40, 60, 80, 120)
LONG_LENGTHS = (*LENGTHS, 180, 240)  # for spaces that take longer to search
LONG_FROM = 13


@dataclass(frozen=True, slots=True)
class Round:
    """One batch: rows `start` to `end` of the history; `anchor_V` is the point it pointed at."""

    start: int
    end: int
    anchor_V: Ints


@dataclass(frozen=True, slots=True)
class History:
    """Distinct points in order, x_MV, with noisy fitness y_M, and the rounds after the random start."""

    x_MV: Ints
    y_M: Floats
    rounds: tuple[Round, ...]

    def cut(self, length: int) -> History:
        """The history as it was after `length` evaluations."""
        return History(self.x_MV[:length], self.y_M[:length], tuple(r for r in self.rounds if r.end <= length))


def simulate(made: Landscape, optimum_V: Ints, length: int, rng: np.random.Generator) -> History:
    """A search of up to `length` distinct points (fewer where the space or the cap leaves fewer)."""
    seen: dict[tuple[int, ...], float] = {}
    rounds: list[Round] = []
    guidance = rng.uniform(0, 0.5)
    thompson = rng.random() < THOMPSON
    _add(made, made.random_points(int(rng.integers(5, 25)), rng), seen, rng)
    for _ in range(3 * length // BATCH):
        if len(seen) >= length:
            break
        if thompson:
            batch_NV = _thompson(made, seen, rng)
        else:
            points = sorted(seen, key=seen.__getitem__, reverse=True)[:5]
            best_NV = np.array(points[: int(rng.integers(1, 6))])
            batch_NV = _mutate(made, best_NV, optimum_V, guidance, rng)
        start = len(seen)
        _add(made, batch_NV, seen, rng)
        if len(seen) > start:
            anchor = list(seen)[start + int(rng.integers(0, len(seen) - start))]
            rounds.append(Round(start, len(seen), np.array(anchor)))
    x_MV = np.array(list(seen), dtype=np.int64).reshape(-1, len(made.sizes))
    return History(x_MV, np.array(list(seen.values())), tuple(rounds))


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
    batch_NV = made.canonical(batch_NV)
    for row_V in batch_NV:
        if tuple(row_V.tolist()) in seen:
            for i in rng.integers(0, len(made.sizes), int(rng.integers(1, 3))):
                row_V[i] = rng.integers(0, made.sizes[i])
    return made.canonical(batch_NV)
