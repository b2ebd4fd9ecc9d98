"""The regular part of cifar-mbconv whose networks were all scored, and their table."""

from __future__ import annotations

import json
import random

import pytest

from collm_nas import spaces
from collm_nas.evaluators import table

SPACE = spaces.load("cifar-stages")


def test_an_architecture_in_the_words_of_its_supernet():
    arch = SPACE.parse("depth 1 3 | kernel 5 | expand 2 4 4 6")
    found = json.loads(SPACE.networks.format(SPACE.in_supernet(arch)))
    assert found["d"] == [1, 1, 3, 3]
    assert [found["e"][i] for i in (0, 3, 6, 7, 8, 9, 10, 11)] == [2, 4, 4, 4, 4, 6, 6, 6]
    assert [found["ks"][i] for i in (0, 3, 6, 9)] == [5] * 4


def test_every_architecture_is_another_network():
    assert SPACE.size == len({SPACE.in_supernet(arch) for arch in SPACE.all()}) == 2187


def test_costs_are_those_of_the_supernet_s_network():
    from collm_nas import supernets

    arch = SPACE.sample(random.Random(0))
    network = supernets.fresh(SPACE.networks).network(SPACE.in_supernet(arch))
    assert SPACE.cost(arch)["params"] == sum(p.numel() for p in network.parameters())


def test_the_packaged_table_holds_every_network():
    evaluator = table.load(SPACE, "cifar-stages", "valid", ["test"])
    assert evaluator.space.size == 2187, "none is missing"
    archs = list(SPACE.all())
    fitness = [evaluation.fitness for evaluation in evaluator.evaluate(archs)]
    assert 60 < min(fitness) < max(fitness) < 80
    assert evaluator.costs(archs[5]) == pytest.approx(SPACE.cost(archs[5]))
