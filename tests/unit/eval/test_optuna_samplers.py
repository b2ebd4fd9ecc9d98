"""The comparison in Optuna's loop: every row searches the same problem from the same beginning."""

from __future__ import annotations

import pytest

from eval.benchmarks import optuna_samplers
from eval.problems import load


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_figures_are_there_and_ours_repeats_nothing() -> None:
    found = optuna_samplers.run(["landscapes", "digits-cells"], ["collm:gp", "tpe", "random"], seeds=1, trials=30)
    assert found["seeds"] == 1 and found["trials"] == 30
    for problem in ("landscapes", "digits-cells"):
        assert set(found[problem]) == {"collm:gp", "tpe", "random"}
        assert all(0 <= row["normalised_regret"] < 1 for row in found[problem].values())
    assert found["digits-cells"]["collm:gp"]["distinct"] == 30


def test_a_random_study_is_that_of_its_seed() -> None:
    instance = load(optuna_samplers.spec("digits-cells"), 0)
    first, again, other = (optuna_samplers.study("random", instance, seed, 14) for seed in (0, 0, 1))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert first["regret"] != other["regret"]
