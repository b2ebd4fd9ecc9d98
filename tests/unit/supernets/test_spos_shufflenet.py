"""The SPOS supernet against numbers of the official code (`golden/spos.json`, `golden/spos_keys.json`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from collm_nas import spaces
from collm_nas.api import UserError
from collm_nas.spaces._spos_shufflenet_costs import PLANS, SPOSConfig, costs, flops, params
from collm_nas.supernets import checkpoint
from collm_nas.supernets.spos_shufflenet import SPOSNetwork, create, expected_keys, rename
from tests.unit.supernets.fill import digest, double, fill, images

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "spos.json").read_text(encoding="utf-8"))
KEYS = json.loads((FOLDER / "spos_keys.json").read_text(encoding="utf-8"))
PLAN = PLANS["spos-shufflenet"]
PUBLISHED = SPOSConfig((2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3))
MIXED = SPOSConfig((3, 2, 1, 0, 1, 3, 3, 2, 0, 1, 2, 3, 3, 1, 0, 2, 1, 0, 3, 1))


def made(state):
    return create(spaces.load("spos-shufflenet"), state)


def subnet(supernet, config):
    return supernet.extract(supernet.space.make(config.blocks))


def config_of(case):
    return SPOSConfig(tuple(case["arch"]))


def path_of(case):
    return "".join(map(str, case["arch"]))


@pytest.fixture(scope="module")
def state():
    return fill({key: shape for key, (shape, _) in KEYS.items()}, GOLDEN["fill"])


@pytest.fixture(scope="module")
def supernet(state):
    return made(state)


@pytest.fixture(scope="module")
def exact_supernet(state):
    return made(double(state))


def test_keys_are_the_official_ones_in_order(state):
    assert list(expected_keys(PLAN).items()) == [(key, tuple(shape)) for key, (shape, _) in KEYS.items()]
    assert len(KEYS) == 1337
    assert sum(value.numel() for value in state.values()) == 8_489_982
    assert digest(state) == GOLDEN["fill_sha256"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=path_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_subnets_give_the_official_logits(supernet, exact_supernet, case, dtype):
    exact = dtype == torch.float64
    network = subnet(exact_supernet if exact else supernet, config_of(case))
    want = case["expect_float64" if exact else "expect"]
    assert not network.training
    with torch.no_grad():
        logits = network(images(case["resolution"]).to(dtype))
    assert logits.dtype == dtype
    assert logits.shape == (2, 1000)
    near = (1e-7 if exact else 1e-4) * want["std"]
    assert (logits[:, :16] - torch.tensor(want["logits16"], dtype=dtype)).abs().max() < near
    assert abs(logits.mean() - want["mean"]) < near
    assert abs(logits.std() - want["std"]) < near
    assert logits.topk(5).indices.tolist() == case["expect"]["top5"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=path_of)
def test_costs_are_the_official_ones(supernet, case):
    config = config_of(case)
    assert (flops(config, PLAN), params(config, PLAN)) == (case["flops"], case["params"])
    weights = [p.numel() for p in subnet(supernet, config).parameters() if p.ndim > 1]
    assert sum(weights) == case["params_without_bn_affine"]


def test_published_figures():
    assert (flops(PUBLISHED, PLAN), params(PUBLISHED, PLAN)) == (322_918_720, 3_558_464)
    assert flops(SPOSConfig((0,) * 20), PLAN) == 295_842_496
    assert flops(SPOSConfig((3,) * 20), PLAN) == 358_825_920


def test_the_architecture_printed_in_the_collm_nas_paper():
    """Its Table 2 gives 325 M FLOPs and 3.7 M parameters: the retrained net's, whose BatchNorms are affine."""
    space = spaces.load("spos-shufflenet")
    blocks = (0, 0, 3, 3, 3, 2, 1, 3, 3, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3)
    arch = space.parse(blocks)
    assert arch == space.parse(list(blocks)) == space.parse(str(blocks)) == space.parse(space.format(arch))
    assert space.format(arch) == str(blocks)
    assert space.cost(arch) == {"flops": 324_957_120, "params": 3_747_728}


@pytest.mark.parametrize("config", [MIXED, *(SPOSConfig((c,) * 20) for c in range(4))], ids=str)
def test_params_are_those_of_the_module(supernet, config):
    network = subnet(supernet, config)
    assert all(p.requires_grad for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) == params(config, PLAN)


def test_flops_are_those_that_the_module_does(supernet):
    network, counted = subnet(supernet, MIXED), []

    def count(layer, _args, out):
        counted.append(layer.weight[0].numel() * out[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(images(224)[:1])
    assert sum(counted) == flops(MIXED, PLAN)


def test_cost_tables_sum_to_the_costs():
    for name, cost in (("flops", flops), ("params", params)):
        table = costs(PLAN)[name]
        assert table["base"] + sum(table["table"][i][c] for i, c in enumerate(MIXED.blocks)) == cost(MIXED, PLAN)


def test_a_subnet_shares_no_memory_and_draws_no_random_numbers(state):
    supernet, before = made(state), torch.get_rng_state()
    network = subnet(supernet, PUBLISHED)
    assert torch.equal(torch.get_rng_state(), before)
    kept = state["first_conv.0.weight"].clone()
    with torch.no_grad():
        network.first_conv[0].conv.weight.zero_()
    assert torch.equal(supernet.state["first_conv.0.weight"], kept)
    assert supernet.state["first_conv.0.weight"].data_ptr() == state["first_conv.0.weight"].data_ptr()


def test_extract_takes_architectures_of_the_space(state, supernet):
    space = spaces.load("spos-shufflenet")
    network = create(space, state).extract(space.make(MIXED.blocks))
    wanted = subnet(supernet, MIXED).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


def test_batchnorms_are_affine_and_neutral(supernet):
    norms = [m for m in subnet(supernet, PUBLISHED).modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}


def test_every_official_spelling_is_read(state, tmp_path):
    prefixed = {f"module.{key}": value for key, value in state.items()}
    for source in (state, prefixed, {"state_dict": state}, {"state_dict": prefixed}):
        assert list(rename(source)) == list(state)
        assert all(value is state[key] for key, value in made(source).state.items())
    torch.save({"state_dict": prefixed}, tmp_path / "checkpoint-150000.pth.tar")
    read = made(checkpoint.read(tmp_path / "checkpoint-150000.pth.tar"))
    assert all(torch.equal(value, state[key]) for key, value in read.state.items())


def test_other_checkpoints_are_refused(state):
    key = "features.0.3.branch_proj.3.running_var"
    with pytest.raises(UserError, match=f"spos-shufflenet.*{key}.*missing"):
        made({name: value for name, value in state.items() if name != key})
    with pytest.raises(UserError, match=r"first_conv.1.weight.*unexpected"):
        made(state | {"first_conv.1.weight": torch.ones(16)})
    with pytest.raises(UserError, match=r"classifier.0.weight.*\(10, 1024\).*\(1000, 1024\)"):
        made(state | {"classifier.0.weight": torch.ones(10, 1024)})


def test_illegal_paths_are_refused():
    with pytest.raises(UserError, match="20 blocks, but got 19"):
        SPOSNetwork(SPOSConfig((0,) * 19), PLAN)
    with pytest.raises(UserError, match=r"block 3 .* 0, 1, 2, 3, but is 4"):
        SPOSConfig((0, 0, 0, 4, *(0,) * 16))


def test_images_of_another_size_are_refused(supernet):
    with pytest.raises(UserError, match=r"\(N, 3, 224, 224\).*\(1, 3, 256, 256\)"):
        subnet(supernet, PUBLISHED)(torch.zeros(1, 3, 256, 256))


def test_costs_load_without_torch():
    code = "import sys, collm_nas.spaces._spos_shufflenet_costs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
