"""Figures of merit of a search, and how sure they are. A query that never came is censored, not left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import numpy as np

from collm_nas.api import Architecture

BOOTSTRAPS = 4000
SWAPS = 9999
TOLERANCE = 1e-9  # two fitness values closer than this are one


def regret(best_known: float, found: float) -> float:
    """What is missing to the best known value, in units of the fitness."""
    return best_known - found


def normalised_regret(best_known: float, typical: float, found: float) -> float:
    """Regret in units of (best known - median of random points): 0 is the best, 1 a typical random point."""
    span = best_known - typical
    return regret(best_known, found) / span if span > 0 else 0.0


def area(curve: Sequence[float | None], best_known: float, typical: float, budget: int) -> float:
    """Area under the curve of normalised regret, as a mean over the queries of the budget: the lower, the sooner.

    A query before the first value counts as a typical random point (1), one after the end as the last query.
    """
    missing = [1.0 for value in curve if value is None]
    known = [normalised_regret(best_known, typical, value) for value in curve if value is not None]
    last = known[-1] if known else 1.0
    return (sum(missing) + sum(known) + last * (budget - len(curve))) / budget


def queries_to_reach(curve: Sequence[float | None], goal: float) -> int | None:
    """The first query (from 1) whose best so far reaches `goal`; None if the search ended before (censored)."""
    for query, best in enumerate(curve, start=1):
        if best is not None and best >= goal - TOLERANCE:
            return query
    return None


def censored_median(queries: Sequence[int | None]) -> float:
    """Median with censored ones counted as longer than all others: infinite where half of them or more never came."""
    if not queries:
        return inf
    ordered = sorted(inf if q is None else float(q) for q in queries)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(queries: Sequence[int | None], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """The bootstrap interval of the censored median; a side is infinite where it was not reached."""
    values_N = np.array([inf if q is None else float(q) for q in queries])
    rng = np.random.default_rng(seed)
    medians = np.median(values_N[rng.integers(0, len(values_N), size=(BOOTSTRAPS, len(values_N)))], axis=1)
    # No interpolation, which an infinite neighbour would spoil.
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def queries_with_interval(queries: Sequence[int | None], budget: int) -> str:
    """`53.5 [41, 66]` or `>100 [87, >100]`."""
    low, high = (f">{budget}" if isinf(side) else f"{side:g}" for side in median_interval(queries))
    return f"{queries_text(queries, budget)} [{low}, {high}]"


def queries_text(queries: Sequence[int | None], budget: int) -> str:
    """The censored median as printed: `53`, `52.5` or `>100`."""
    median = censored_median(queries)
    return f">{budget}" if isinf(median) else f"{median:g}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """`0.021 [0.010, 0.035]`."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def bootstrap(values: Sequence[float], seed: int = 0, level: float = 0.95) -> Estimate:
    """Mean and percentile interval over resamples; the interval of a single value is that value."""
    import numpy as np

    values_N = np.asarray(values, dtype=float)
    if not len(values_N):
        raise ValueError("a mean needs at least one value")
    rng = np.random.default_rng(seed)
    means = values_N[rng.integers(0, len(values_N), size=(BOOTSTRAPS, len(values_N)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values_N.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences `first - second` seed by seed."""

    difference: Estimate
    higher: int
    equal: int
    lower: int
    p: float = 1.0
    """Of no difference in the mean: a permutation test that swaps the two rows on seeds. `holm` corrects several."""

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0


def paired(first: dict[Any, float], second: dict[Any, float], seed: int = 0) -> Paired:
    """Compares two rows on the seeds that both have; ValueError where there is none."""
    shared = [key for key in first if key in second]
    if not shared:
        raise ValueError("no seed is in both rows, so nothing can be paired")
    differences = [first[key] - second[key] for key in shared]
    higher = sum(d > TOLERANCE for d in differences)
    lower = sum(d < -TOLERANCE for d in differences)
    equal = len(differences) - higher - lower
    return Paired(bootstrap(differences, seed), higher, equal, lower, _swapped(differences, seed))


def _swapped(differences: Sequence[float], seed: int) -> float:
    """Two-sided p of a permutation test on the mean of paired differences: exact up to 13 seeds, else 9,999 draws."""
    from scipy.stats import permutation_test

    values_N = np.asarray(differences, dtype=float)
    if len(values_N) < 2 or np.abs(values_N).max() <= TOLERANCE:
        return 1.0  # one seed, or none that differs, tells nothing
    done = permutation_test(
        (values_N,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=SWAPS,
        rng=np.random.default_rng(seed),
    )
    return float(done.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values that hold together (Holm's step-down correction), in the order given."""
    corrected, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = least
    return corrected


def diversity(archs: Sequence[Architecture]) -> float | None:
    """How different architectures are: the share of variables in which two of them differ, over all pairs (0 to 1).

    None where there are fewer than two. A random pair of K equally likely choices differs in (K - 1) / K.
    """
    if len(archs) < 2:
        return None
    choices_MD = np.array([arch.choices for arch in archs])
    differ = [float((choices_MD[i + 1 :] != row_D).mean(1).sum()) for i, row_D in enumerate(choices_MD)]
    return sum(differ) / (len(archs) * (len(archs) - 1) / 2)
