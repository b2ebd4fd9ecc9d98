"""The published subnets: each is of its space, and costs what was published beside its accuracy."""

from __future__ import annotations

import pytest

from collm_nas import spaces, supernets
from collm_nas.supernets import protocols, published


@pytest.mark.parametrize("subnet", published.PUBLISHED, ids=lambda subnet: subnet.name)
def test_costs_are_the_published_ones(subnet):
    space = spaces.load(subnet.space)
    arch = space.parse(subnet.arch)
    costs = dict(space.cost(arch))
    if "tutorial_flops" in subnet.costs:
        costs["tutorial_flops"] = round(space.tutorial_flops(arch), -5)  # printed in units of 1e5
    assert {name: costs[name] for name in subnet.costs} == subnet.costs
    assert subnet.space in supernets.names() and subnet.source
    assert protocols.named(subnet.protocol).name in subnet.space


def test_accuracies_are_the_published_ones():
    """SPOS publishes that of a network trained anew, which says nothing of the supernet's weights."""
    told = {subnet.name: subnet.accuracy for subnet in published.PUBLISHED}
    assert told == {
        "autoformer-tiny": 75.3,
        "autoformer-small": 81.7,
        "autoformer-base": 82.4,
        "CoLLM-NAS T": 75.9,
        "CoLLM-NAS S": 77.6,
        "CoLLM-NAS S*": 77.9,
        "CoLLM-NAS B": 78.5,
        "CoLLM-NAS L": 79.0,
        "spos-shufflenet": None,
    }
    assert [subnet.name for subnet in published.of("autoformer-small")] == ["autoformer-small"]
    assert not published.of("ofa-mbv3")
    exact, paper = (published.of(space)[0].tolerance for space in ("autoformer-tiny", "ofa-mbv3-w1.2"))
    assert 0 < exact < paper < 1
