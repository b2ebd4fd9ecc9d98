from __future__ import annotations

import itertools
import random

import pytest

from collm_nas import pareto


def drawn(seed: int, n: int, dimensions: int, side: int = 6) -> list[pareto.Point]:
    rng = random.Random(seed)
    return [tuple(float(rng.randrange(side)) for _ in range(dimensions)) for _ in range(n)]


def counted(points: list[pareto.Point], reference: pareto.Point) -> float:
    """The volume by counting unit cells: points and reference are whole numbers."""
    cells = itertools.product(*(range(int(r)) for r in reference))
    return float(sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_hypervolume_is_the_number_of_dominated_cells(dimensions: int, seed: int) -> None:
    points, reference = drawn(seed, 7, dimensions), (5.0,) * dimensions
    assert pareto.hypervolume(points, reference) == counted(points, reference)


def test_what_is_not_within_the_reference_dominates_nothing() -> None:
    assert pareto.hypervolume([(0.0, 5.0), (5.0, 0.0), (9.0, 9.0)], (5.0, 5.0)) == 0.0
    assert pareto.hypervolume([], (1.0, 1.0)) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_dominates_and_of_equals_the_first(seed: int) -> None:
    points = drawn(seed, 40, 3, side=5)
    kept = pareto.front(points)
    assert kept == sorted(kept)
    for i, point in enumerate(points):
        beaten = any(pareto.dominates(p, point) and p != point for p in points)
        assert (i in kept) == (not beaten and points.index(point) == i)


def test_the_same_as_optuna_finds() -> None:
    numpy = pytest.importorskip("numpy")
    module = pytest.importorskip("optuna._hypervolume")
    rng = numpy.random.default_rng(0)
    for dimensions in (2, 3):
        points_NK = rng.random((30, dimensions))
        expected = module.compute_hypervolume(points_NK, numpy.ones(dimensions))
        assert pareto.hypervolume([tuple(p) for p in points_NK.tolist()], (1.0,) * dimensions) == pytest.approx(
            expected
        )
