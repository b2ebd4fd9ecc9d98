"""The OFA MobileNetV3 supernets against numbers of the official code (`golden/ofa_mbv3.json`, `ofa_mbv3_keys.json`)."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from collm_nas import spaces
from collm_nas.api import UserError
from collm_nas.spaces._ofa_mbv3_costs import PLANS, OFAConfig, blocks, flops, params, tutorial_flops
from collm_nas.supernets.base import filled
from collm_nas.supernets.ofa_mbv3 import create, expected_keys, rename, smaller_kernel, structure
from tests.unit.supernets.fill import digest, double, draw, fill, images

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "ofa_mbv3.json").read_text(encoding="utf-8"))
KEYS = json.loads((FOLDER / "ofa_mbv3_keys.json").read_text(encoding="utf-8"))
PLAN, WIDE = PLANS["ofa-mbv3"], PLANS["ofa-mbv3-w1.2"]
LARGEST = PLAN.largest
SMALLEST = OFAConfig(128, (2,) * 5, (3,) * 20, (3,) * 20)


def made(state, name="ofa-mbv3"):
    return create(spaces.load(name), state)


def numbers(text):
    return tuple(map(int, text.replace(",", "")))


# The architectures printed in the CoLLM-NAS paper (resolution, depths, kernels, expansions), with three costs in
# millions: the tutorial's table as Table 2 and 3 print it, the multiply-adds at width 1.2 and at width 1.0; then the
# parameters at width 1.2.
PRINTED = {
    "T": (176, "23234", "33535335777775373337", "33444443444644446643", 199.7, 214.5, 141.7, 7.34),
    "S": (208, "33334", "33335555333355753377", "33333333444444446633", 297.3, 315.3, 207.3, 7.21),
    "S*": (208, "33433", "5" * 14 + "373333", "3" * 8 + "4" * 8 + "6663", 319.5, 337.8, 223.1, 7.58),
    "B": (208, "34444", "35375533557575337575", "33333463643464446663", 390.8, 409.3, 273.7, 8.62),
    "L": (224, "24444", "75355537573337735335", "34344643666346636663", 497.6, 498.9, 335.9, 8.96),
}


def printed(name):
    resolution, depths, kernels, expands, *_ = PRINTED[name]
    return OFAConfig(resolution, numbers(depths), numbers(kernels), numbers(expands))


def config_of(case):
    arch = case["arch"]
    return OFAConfig(arch["r"][0], tuple(arch["d"]), tuple(arch["ks"]), tuple(arch["e"]))


def subnet(supernet, config):
    return filled(structure(config, supernet.plan), supernet.slices(config))


@pytest.fixture(scope="module")
def state():
    return fill({key: shape for key, (shape, _) in KEYS.items()}, GOLDEN["fill"])


@pytest.fixture(scope="module")
def supernet(state):
    return made(state)


def test_keys_are_the_official_ones_in_order(state):
    assert list(expected_keys(PLAN).items()) == [(key, tuple(shape)) for key, (shape, _) in KEYS.items()]
    assert len(KEYS) == 475
    assert sum(value.numel() for value in state.values()) == 7_720_768
    assert sum(key.endswith("num_batches_tracked") for key in KEYS) == 64
    assert digest(state) == GOLDEN["fill_sha256"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["largest", "smallest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_subnets_give_the_official_logits(supernet, state, case, dtype):
    exact = dtype == torch.float64
    network = subnet(made(double(state)) if exact else supernet, config_of(case))
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


# --- costs ------------------------------------------------------------------------------------------------------------


def test_costs_are_the_official_ones(supernet):
    assert (params(LARGEST, PLAN), flops(LARGEST, PLAN)) == (7_664_760, 566_170_656)
    assert (params(SMALLEST, PLAN), flops(SMALLEST, PLAN)) == (3_410_792, 41_476_224)
    for case in GOLDEN["cases"]:
        config = config_of(case)
        assert (params(config, PLAN), flops(config, PLAN)) == (case["params"], case["flops"])
        assert sum(p.numel() for p in subnet(supernet, config).parameters()) == case["params"]


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", range(4))
def test_costs_are_those_of_the_module(name, seed):
    space = spaces.load(name)
    config = space.config(space.sample(random.Random(seed)))
    network = structure(config, space.plan).eval()
    with torch.device("meta"):
        counted = multiply_adds(network, torch.zeros(1, space.plan.inputs, config.resolution, config.resolution))
    assert flops(config, space.plan) == counted
    assert params(config, space.plan) == sum(p.numel() for p in network.parameters())


def multiply_adds(network, images_NCHW):
    """Counted while the network runs: output elements times the weights each of them meets."""
    counts = []

    def count(module, _, out):
        counts.append(out.numel() * module.weight[0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    network(images_NCHW)
    for hook in hooks:
        hook.remove()
    return sum(counts)


@pytest.mark.parametrize("name", PRINTED)
def test_costs_of_the_printed_architectures(name):
    config, (table, wide, plain, weights) = printed(name), PRINTED[name][4:]
    assert round(tutorial_flops(config) / 1e6, 1) == table
    assert round(flops(config, WIDE) / 1e6, 1) == wide
    assert round(flops(config, PLAN) / 1e6, 1) == plain
    assert round(params(config, WIDE) / 1e6, 2) == weights


def test_squeeze_widths_follow_the_active_middle_width():
    """72 // 4 rounds to 24, for 16 would be less than nine tenths of 18."""
    found = {}
    for expand in (3, 4, 6):
        for block in blocks(OFAConfig(224, (4,) * 5, (7,) * 20, (expand,) * 20), PLAN):
            found |= {block.mid: block.squeeze} if block.squeeze else {}
    assert found == {
        **{72: 24, 96: 24, 120: 32, 144: 40, 160: 40, 240: 64, 320: 80, 336: 88},
        **{448: 112, 480: 120, 640: 160, 672: 168, 960: 240},
    }


# --- weight sharing ---------------------------------------------------------------------------------------------------


def test_a_smaller_kernel_is_the_centre_times_the_matrix():
    weight, to5, to3 = draw((2, 1, 7, 7), 1), draw((25, 25), 2), draw((9, 9), 3)
    steps = [(5, to5), (3, to3)]
    for channel in range(2):
        five = to5 @ torch.stack([weight[channel, 0, 1 + i // 5, 1 + i % 5] for i in range(25)])
        three = to3 @ torch.stack([five[5 * (1 + i // 3) + 1 + i % 3] for i in range(9)])
        torch.testing.assert_close(smaller_kernel(weight, 5, steps)[channel].flatten(), five)
        torch.testing.assert_close(smaller_kernel(weight, 3, steps)[channel].flatten(), three)
    assert smaller_kernel(weight, 7, steps) is weight


def test_slices_are_the_first_of_each_dimension(supernet, state):
    kernels, expands = [7] * 20, [6] * 20
    kernels[5], expands[5] = 5, 4  # the second block of stage 2: middle 160 of 240, squeeze 40 of 64
    network = subnet(supernet, OFAConfig(224, (3, 4, 4, 4, 4), tuple(kernels), tuple(expands)))
    block, official = network.blocks[5], "blocks.6.conv."  # stage 1 is one block short
    assert torch.equal(block.expand.conv.weight, state[official + "inverted_bottleneck.conv.conv.weight"][:160])
    assert torch.equal(block.expand.bn.running_var, state[official + "inverted_bottleneck.bn.bn.running_var"][:160])
    assert torch.equal(block.se.reduce.weight, state[official + "depth_conv.se.fc.reduce.weight"][:40, :160])
    assert torch.equal(block.se.expand.bias, state[official + "depth_conv.se.fc.expand.bias"][:160])
    assert torch.equal(block.project.conv.weight, state[official + "point_linear.conv.conv.weight"][:, :160])
    assert block.depthwise.conv.weight.shape == (160, 1, 5, 5)


def test_subnets_own_their_weights(supernet, state):
    network = subnet(supernet, LARGEST)
    with torch.no_grad():
        for value in [*network.parameters(), *network.buffers()]:
            value.fill_(1)
    assert digest(state) == GOLDEN["fill_sha256"]


def test_slots_out_of_use_do_not_matter(supernet):
    shallow = OFAConfig(128, (2,) * 5, ((3,) * 2 + (0,) * 2) * 5, ((3,) * 2 + (6,) * 2) * 5)
    own, want = subnet(supernet, shallow).state_dict(), subnet(supernet, SMALLEST).state_dict()
    assert all(torch.equal(own[key], want[key]) for key in want)
    assert (flops(shallow, PLAN), params(shallow, PLAN)) == (flops(SMALLEST, PLAN), params(SMALLEST, PLAN))


def test_width_1_2():
    state = {key: torch.zeros(shape) for key, shape in expected_keys(WIDE).items()}
    assert state["first_conv.conv.weight"].shape == (24, 3, 3, 3)
    assert state["blocks.13.conv.inverted_bottleneck.conv.conv.weight"].shape == (6 * 96, 96, 1, 1)
    assert state["classifier.linear.weight"].shape == (1000, 1536)
    network = subnet(made(state, "ofa-mbv3-w1.2"), printed("T"))
    assert sum(p.numel() for p in network.parameters()) == params(printed("T"), WIDE)


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def test_the_released_spelling_is_read(state):
    released = {re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", key): state[key] for key in state}
    assert "blocks.1.mobile_inverted_conv.depth_conv.conv.conv.weight" in released
    assert list(rename(released)) == list(rename(state)) == list(state)
    assert made(released).state.keys() == state.keys()


def test_other_checkpoints_are_refused(state):
    key = "blocks.20.conv.depth_conv.conv.7to5_matrix"
    with pytest.raises(UserError, match=rf"ofa-mbv3.*{key}.*missing"):
        made({k: value for k, value in state.items() if k != key})
    with pytest.raises(UserError, match=r"'blocks.21.conv.x' is unexpected"):
        made({**state, "blocks.21.conv.x": torch.zeros(1)})
    with pytest.raises(UserError, match=r"ofa-mbv3-w1.2.*first_conv.*\(16, 3, 3, 3\), expected \(24, 3, 3, 3\)"):
        made(state, "ofa-mbv3-w1.2")


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"resolution": 0}, "resolution.*at least 1"),
        ({"depths": (4,) * 4}, "5 depths, but got 4"),
        ({"kernels": (7,) * 21}, "20 kernels, but got 21"),
        ({"depths": (4, 4, 5, 4, 4)}, "depth of stage 3.*one of 2, 3, 4, but is 5"),
        ({"kernels": (7,) * 19 + (1,)}, "kernel of block 20.*one of 3, 5, 7, but is 1"),
        ({"expands": (5,) + (6,) * 19}, "expansion of block 1 .*one of 3, 4, 6, but is 5"),
    ],
)
def test_illegal_configs_are_refused(changed, culprit):
    legal = {"resolution": 224, "depths": (4,) * 5, "kernels": (7,) * 20, "expands": (6,) * 20}
    with pytest.raises(UserError, match=culprit):
        blocks(OFAConfig(**{**legal, **changed}), PLAN)


def test_the_costs_load_without_torch():
    code = "import sys; from collm_nas.spaces import _ofa_mbv3_costs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
