from __future__ import annotations

from math import inf

import pytest

from eval.metrics import (
    area,
    bootstrap,
    censored_median,
    holm,
    median_interval,
    normalised_regret,
    paired,
    queries_text,
    queries_to_reach,
    queries_with_interval,
    regret,
)


def test_regret_is_zero_at_the_best_and_one_at_a_typical_point_when_normalised() -> None:
    assert regret(10.0, 7.5) == 2.5
    assert normalised_regret(10.0, 2.0, 10.0) == 0.0
    assert normalised_regret(10.0, 2.0, 2.0) == 1.0
    assert normalised_regret(3.0, 3.0, 3.0) == 0.0, "a flat table has no regret"


def test_queries_count_from_one_and_are_censored() -> None:
    assert queries_to_reach([None, 1.0, 2.0, 3.0, 3.0], 3.0) == 4
    assert queries_to_reach([None, 1.0], 3.0) is None
    assert queries_to_reach([], 3.0) is None


def test_the_area_is_the_mean_regret_of_all_queries_of_the_budget() -> None:
    """Best 10, typical 2: regrets 1 (nothing known yet), 0.5, 0.25, and 0.25 for the two queries that were left."""
    assert area([None, 6.0, 8.0], 10.0, 2.0, 5) == pytest.approx((1 + 0.5 + 3 * 0.25) / 5)
    assert area([10.0] * 4, 10.0, 2.0, 4) == 0.0
    assert area([None], 10.0, 2.0, 4) == 1.0
    sooner, later = [10.0, 10.0, 10.0], [2.0, 2.0, 10.0]
    assert area(sooner, 10.0, 2.0, 3) < area(later, 10.0, 2.0, 3), "equal at the end, but not on the way"


@pytest.mark.parametrize(
    ("queries", "median", "text"),
    [
        ([10, 30, None], 30.0, "30"),
        ([10, 31], 20.5, "20.5"),
        ([10, None, None], inf, ">100"),
        ([10, None], inf, ">100"),
        ([], inf, ">100"),
    ],
)
def test_the_median_counts_censored_searches_as_longest(queries: list[int | None], median: float, text: str) -> None:
    assert censored_median(queries) == median
    assert queries_text(queries, 100) == text


def test_the_median_has_an_interval_that_knows_of_censoring() -> None:
    low, high = median_interval([*range(1, 100)])
    assert 30 < low < 50 < high < 70
    assert median_interval([10, 20, None, None, None])[1] == inf and median_interval([None]) == (inf, inf)
    assert queries_with_interval([7, 7, 7], 100) == "7 [7, 7]"
    assert queries_with_interval([None, None], 100) == ">100 [>100, >100]"


def test_bootstrap_interval_covers_the_mean_and_shrinks_with_more_values() -> None:
    few, many = bootstrap([0.0, 1.0] * 5), bootstrap([0.0, 1.0] * 500)
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    # Normal theory: half width 1.96 * 0.5 / sqrt(1000).
    assert many.high - 0.5 == pytest.approx(0.031, abs=0.003)
    assert bootstrap([2.0]).low == bootstrap([2.0]).high == 2.0
    assert bootstrap([0.0, 1.0, 5.0]) == bootstrap([0.0, 1.0, 5.0])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_pairing_sees_a_small_difference_that_the_means_hide() -> None:
    second = {seed: float(seed) for seed in range(20)}
    first = {seed: value - 0.1 for seed, value in second.items()} | {99: 1000.0}
    found = paired(first, second)
    assert found.difference.mean == pytest.approx(-0.1)
    assert (found.higher, found.equal, found.lower) == (0, 0, 20)
    assert found.decided
    assert not paired(second, second).decided
    with pytest.raises(ValueError, match="no seed"):
        paired({1: 0.0}, {2: 0.0})


def test_a_difference_has_a_p_value_of_swapped_pairs() -> None:
    """Ten differences of one sign: of 1,024 ways to swap, two are as far from zero."""
    second = dict.fromkeys(range(10), 0.0)
    assert paired(dict.fromkeys(range(10), 1.0), second).p == pytest.approx(2 / 1024)
    assert paired(second, second).p == paired({0: 1.0}, {0: 0.0}).p == 1.0
    mixed = {seed: (-1.0) ** seed for seed in range(10)}
    assert paired(mixed, second).p == 1.0


def test_holm_corrects_step_by_step_and_keeps_the_order() -> None:
    """0.01 * 4, then the larger of that and 0.02 * 3, and so on; never above 1."""
    assert holm([0.04, 0.01, 0.02, 0.9]) == pytest.approx([0.08, 0.04, 0.06, 0.9])
    assert holm([0.03, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.8, 0.7]) == [1.0, 1.0] and holm([]) == []
