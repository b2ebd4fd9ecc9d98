"""The benchmark of scoring: both loops see the same images, and agree on what a subnet is worth."""

from __future__ import annotations

import random

import pytest
import torch

from collm_nas.evaluators import supernet as evaluators
from collm_nas.supernets import session
from eval.benchmarks import supernet_speed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("digits")
    session.train("digits-mbconv", None, folder, epochs=1, valid=300, limit=512, device="cpu")
    return str(folder)


def test_both_loops_agree_and_the_figures_are_there(trained: str) -> None:
    found = supernet_speed.run(trained, None, subnets=2, rounds=1)
    assert found["space"] == "digits-mbconv" and found["images"] == {"calibration": 512, "valid": 300}
    loops = {"ours", "plain", "plain, workers kept"}
    assert set(found["seconds_per_subnet"]) == loops and set(found["times_faster"]) == loops - {"ours"}
    assert all(value > 0 for value in (*found["seconds_per_subnet"].values(), *found["times_faster"].values()))
    assert found["accuracies_apart_at_most"] < 3  # statistics of four batches averaged, against those of one


@pytest.mark.parametrize("name", ["calibration", "valid"])
def test_the_plain_loop_reads_the_images_that_the_evaluator_scores_on(trained: str, name: str) -> None:
    evaluator = evaluators.load(None, trained, device="cpu")
    inputs = evaluator.inputs(evaluator.space.sample(random.Random(0)))
    loader = getattr(supernet_speed.PlainLoop(evaluator, persistent=False), name)
    batches = list(loader)
    split = evaluator.splits[name]
    assert torch.equal(torch.cat([x for x, _ in batches]), inputs.normalized(split.pixels(inputs), torch.float32))
    assert torch.equal(torch.cat([y for _, y in batches]), split.labels)
