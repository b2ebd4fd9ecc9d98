"""NAS-Bench-201 against numbers of the official code (`tests/golden/nb201.json`)."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collm_nas import spaces
from collm_nas.api import UserError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "nb201.json").read_text(encoding="utf-8"))
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


@pytest.fixture(scope="module")
def nb():
    return spaces.load("nasbench201")


@pytest.fixture(scope="module")
def archs(nb):
    return list(nb.all())


def test_official_order(nb, archs):
    strings = [nb.format(arch) for arch in archs]
    assert hashlib.sha256("\n".join(strings).encode()).hexdigest() == GOLDEN["order_sha256"]
    assert nb.size == len(strings) == len(set(archs)) == 15_625
    for index, string in GOLDEN["index_examples"].items():
        assert strings[int(index)] == string
        assert nb.index(nb.parse(f"  {string}\n")) == int(index)


def test_isomorphism_classes(nb, archs):
    assert len({nb.isomorph(arch) for arch in archs}) == GOLDEN["unique_consider_zero_True"] == 6466
    for case in GOLDEN["network_costs"]:
        assert nb.isomorph(nb.parse(case["arch"])) == case["unique_str"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_costs_of_single_cells(dataset):
    space = spaces.load("nasbench201", dataset=dataset.lower())
    for case in GOLDEN["network_costs"]:
        assert space.cost(space.parse(case["arch"])) == case[dataset]
    archs = list(space.all())
    for index, table in GOLDEN["nats_cost_table"].items():
        costs = space.cost(archs[int(index)])
        assert costs["params"] == round(table[dataset]["params_M"] * 1e6)
        assert costs["flops"] == round(table[dataset]["flops_M"] * 1e6)


def test_costs_of_all_cells(nb, archs):
    costs = [nb.cost(arch) for arch in archs]
    want = GOLDEN["all_archs_cifar10"]
    for name in ("params", "flops"):
        values = [cost[name] for cost in costs]
        assert all(type(value) is int for value in values)
        assert (min(values), max(values), sum(values)) == (
            want[f"min_{name}"],
            want[f"max_{name}"],
            want[f"sum_{name}"],
        )
    assert len({cost["params"] for cost in costs}) == want["distinct_params"]


def test_official_lists_are_read(nb):
    text = GOLDEN["index_examples"]["123"]
    nodes = [[tuple(edge.split("~")) for edge in node.strip("|").split("|")] for node in text.split("+")]
    assert nb.parse(nodes) == nb.parse([tuple((op, int(a)) for op, a in node) for node in nodes]) == nb.parse(text)
    with pytest.raises(UserError, match="three nodes"):
        nb.parse([nodes[0], nodes[2], nodes[1]])
    with pytest.raises(UserError, match=r"'e12'.*'conv'.*nor_conv_3x3"):
        nb.parse([nodes[0], [nodes[1][0], ("conv", 1)], nodes[2]])


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_7x7~1|+|none~0|none~1|none~2|",
            "'e12'.*nor_conv_7x7.*avg_pool_3x3",
        ),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "'e02'"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|x", "'e23'"),
        ("", "'e01'"),
    ],
)
def test_illegal_strings_name_the_edge(nb, text, culprit):
    with pytest.raises(ValueError, match=culprit):
        nb.parse(text)


def test_unknown_dataset():
    with pytest.raises(UserError, match=r"'cifar-10'.*cifar10, cifar100, imagenet16-120.*did you mean 'cifar10'"):
        spaces.load("nasbench201", dataset="cifar-10")


def test_a_restricted_space_keeps_the_rows_order(nb, archs):
    part = nb.restrict(archs[100:90:-1])
    assert list(part.all()) == archs[100:90:-1]
    assert part.size == 10


def test_regex_is_exact(nb, archs):
    for encoding in ("native", "compact"):
        pattern = re.compile(nb.regex(encoding))
        assert all(pattern.fullmatch(nb.format(arch, encoding)) for arch in archs[::97])
    assert not re.fullmatch(nb.regex("native"), GOLDEN["index_examples"]["0"] + "|")


@pytest.mark.parametrize("case", GOLDEN["logits_cases"], ids=lambda case: str(case["index"]))
def test_network_gives_the_official_logits(nb, case):
    import torch

    from tests.unit.supernets.fill import digest, draw, fill

    keys = GOLDEN["keys"][str(case["index"])]
    arch = nb.parse(case["arch"])
    own = {k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in nb.build(arch).state_dict().items()}
    assert own == keys
    assert list(own) == list(keys)

    state = fill({key: shape for key, (shape, _) in keys.items()}, GOLDEN["fill"])
    assert digest(state) == case["fill_sha256"]
    images = draw((2, 3, 32, 32), 7).float()
    network = nb.build(arch, 10, state)
    assert not network.training
    with torch.no_grad():
        logits = network(images)
    want = torch.tensor(case["logits"])
    assert logits.dtype == torch.float32
    assert (logits - want).abs().max() < 1e-4 * want.std()

    double = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    with torch.no_grad():
        logits = nb.build(arch, 10, double)(images.double())
    want = torch.tensor(case["logits_float64"], dtype=torch.float64)
    assert (logits - want).abs().max() < 1e-7 * want.std()


@pytest.mark.parametrize("index", [0, 9, 1462])
def test_params_are_those_of_the_module(index):
    space = spaces.load("nasbench201", dataset="imagenet16-120")
    arch = space.parse(GOLDEN["index_examples"][str(index)])
    assert sum(p.numel() for p in space.build(arch).parameters()) == space.cost(arch)["params"]


def test_weights_of_another_cell_are_refused(nb, archs):
    state = nb.build(archs[0]).state_dict()
    with pytest.raises(UserError, match=r"lacks '.*keys missing"):
        nb.build(archs[1], 10, state)
    with pytest.raises(UserError, match=r"classifier.*num_classes"):
        nb.build(archs[0], 100, state)


def test_the_space_loads_without_torch():
    code = "import sys; from collm_nas import spaces; spaces.load('nasbench201'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
