"""The AutoFormer supernets against numbers of the official code (`golden/autoformer_*.json`)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from collm_nas import spaces, supernets
from collm_nas.api import UserError
from collm_nas.spaces._autoformer_costs import SIZES, AutoFormerConfig, flops, params, require_fit, size_of
from collm_nas.supernets.autoformer import AutoFormerNetwork, AutoFormerSupernet, create, expected_keys, structure
from collm_nas.supernets.base import filled
from tests.unit.supernets.fill import digest, double, fill, images

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {size: json.loads((FOLDER / f"autoformer_{size[0]}.json").read_text(encoding="utf-8")) for size in SIZES}
KEYS = {size: json.loads((FOLDER / f"autoformer_{size[0]}_keys.json").read_text(encoding="utf-8")) for size in SIZES}
CASES = [pytest.param(size, case, id=f"{size}-{case['arch'][0]}") for size in SIZES for case in GOLDEN[size]["cases"]]
ELEMENTS = {"tiny": (232, 11_669_224), "small": (232, 34_790_440), "base": (264, 80_160_360)}

# microsoft/Cream @ 4a13c40, AutoFormer/experiments/subnet/*.yaml, section RETRAIN
PUBLISHED = {
    "tiny": AutoFormerConfig(
        192, (3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5), (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3)
    ),
    "small": AutoFormerConfig(
        384, (3.0, 3.5, 3.0, 3.5, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.5, 4.0), (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7)
    ),
    "base": AutoFormerConfig(
        576,
        (3.5, 3.5, 4.0, 3.5, 4.0, 3.5, 3.5, 3.0, 4.0, 4.0, 3.0, 4.0, 3.0, 3.5),
        (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
    ),
}
# The architectures printed in the CoLLM-NAS paper (depth, MLP ratios, heads, width); their exact multiply-adds and
# parameters; and both in millions as its Table 2 gives them.
PRINTED = {
    "tiny": (
        (13, *(3.5,) * 9, 4.0, 3.5, 4.0, 3.5, *(3,) * 10, 4, 3, 4, 192),
        *(1_508_818_688, 5_954_248, 1366, 6.0),
    ),
    "small": (
        (13, *(4.0, 4.0, 3.5, 3.5) * 3, 4.0, *(5, 7, 6) * 4, 5, 384),
        *(5_161_148_672, 22_940_584, 4897, 22.9),
    ),
    "base": (
        (
            *(14, 3.5, 3.5, 4.0, 3.5, 3.0, 3.5, 4.0, 3.0, 3.5, 4.0, 3.0, 3.5, 3.0, 3.5),
            *(10, 10, 10, 9, 9, 9, 9, 10, 10, 9, 9, 9, 9, 9, 576),
        ),
        *(11_534_083_328, 52_843_144, 11074, 52.8),
    ),
}
UNEVEN = AutoFormerConfig(100, (4.0, 0.5, 2.25), (1, 4, 2))
"""Nothing of it is in the search space, all of it fits the tiny supernet."""


def config_of(case):
    model = case["config"]
    return AutoFormerConfig(model["embed_dim"][0], tuple(model["mlp_ratio"]), tuple(model["num_heads"]))


def subnet(supernet, config):
    """Also of numbers that are not in the space's table."""
    weights = supernet.slices(config)
    return filled(structure(config, torch.device("cpu")), weights)


@pytest.fixture(scope="module")
def supernet():
    """Supernets by size with the golden cases' weights; the latest is kept: base takes 320 MB."""
    kept = {}

    def of(size):
        if size not in kept:
            kept.clear()
            state = fill({key: shape for key, (shape, _) in KEYS[size].items()}, GOLDEN[size]["fill"])
            assert digest(state) == GOLDEN[size]["fill_sha256"]
            kept[size] = AutoFormerSupernet(state, spaces.load(f"autoformer-{size}"))
        return kept[size]

    return of


@pytest.fixture(scope="module")
def tiny():
    state = fill(expected_keys("tiny"), GOLDEN["tiny"]["fill"])
    return AutoFormerSupernet(state, spaces.load("autoformer-tiny"))


def logits_of(network, dtype=torch.float32):
    with torch.no_grad():
        return network(images(224).to(dtype))


@pytest.mark.parametrize("size", SIZES)
def test_keys_are_the_official_ones_in_order(size):
    keys = expected_keys(size)
    assert list(keys.items()) == [(key, tuple(shape)) for key, (shape, _) in KEYS[size].items()]
    assert {dtype for _, dtype in KEYS[size].values()} == {"float32"}
    assert (len(keys), sum(torch.Size(shape).numel() for shape in keys.values())) == ELEMENTS[size]


@pytest.mark.parametrize("size", SIZES)
def test_costs_of_the_published_subnets(size):
    assert params(PUBLISHED[size]) == {"tiny": 5_867_944, "small": 22_891_432, "base": 53_691_688}[size]
    assert round(flops(PUBLISHED[size]) / 1e9, 3) == {"tiny": 1.482, "small": 5.161, "base": 11.691}[size]


@pytest.mark.parametrize("size", PRINTED)
def test_the_architectures_printed_in_the_collm_nas_paper(size):
    """The paper's parameters are the exact ones. Its FLOPs are those of the official `get_complexity`, to the million,
    and 4 to 10 % below the multiply-adds that are done: relative positions are counted almost for nothing."""
    flat, exact, weights, paper_flops, paper_params = PRINTED[size]
    space = spaces.load(f"autoformer-{size}")
    arch = space.parse(flat)
    assert arch == space.parse(list(flat)) == space.parse(str(flat)) == space.parse(space.format(arch))
    assert space.format(arch) == str(flat)
    assert space.cost(arch) == {"flops": exact, "params": weights}
    assert round(weights / 1e6, 1) == paper_params
    assert round(official_complexity(flat) / 1e6) == paper_flops


def official_complexity(flat):
    """What `get_complexity(196)` of microsoft/Cream @ 4a13c40 counts, 198 tokens in the
    layers, 197 in the head; two norms a layer; relative positions apart from the heads' products."""
    n, e = flat[0], flat[-1]
    count, tokens = 0.0, 198
    for ratio, heads in zip(flat[1 : n + 1], flat[n + 1 : -1], strict=True):
        width, hidden = 64 * heads, int(e * ratio)
        linear = tokens * (4 * e * width + 2 * e * hidden)
        relative = 14 * tokens**2 + tokens**2 / 2 + 14 * tokens**2 + width * tokens / 2
        count += linear + 2 * tokens**2 * width + relative + 2 * tokens * e
    return count + 196 * 768 * e + e + 197 * e / 2 + 197 * e * 1000


@pytest.mark.parametrize(("size", "case"), CASES)
def test_subnets_give_the_official_logits(supernet, size, case):
    config, whole = config_of(case), supernet(size)
    network = subnet(whole, config)
    assert not network.training
    logits = logits_of(network)
    check_logits(logits, case["expect"], 1e-4)
    assert logits.topk(5).indices.tolist() == case["expect"]["top5"]
    assert (flops(config), params(config)) == (case["plain_macs"], case["params"])
    assert sum(p.numel() for p in network.parameters()) == params(config)

    exact = subnet(AutoFormerSupernet(double(whole.state), whole.space), config)
    assert {p.dtype for p in exact.parameters()} == {torch.float64}
    check_logits(logits_of(exact, torch.float64), case["expect_float64"], 1e-7)


def check_logits(logits, want, near):
    assert logits.shape == (2, 1000)
    near *= want["std"]
    assert (logits[:, :16] - torch.tensor(want["logits16"], dtype=logits.dtype)).abs().max() < near
    assert abs(logits.mean() - want["mean"]) < near
    assert abs(logits.std() - want["std"]) < near


def test_costs_are_those_of_the_module_also_between_the_spaces_choices(tiny):
    network, counted = subnet(tiny, UNEVEN), []

    def count(layer, _args, out):
        counted.append(layer.weight[0].numel() * out[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    assert logits_of(network).isfinite().all()
    attention = sum(4 * 197 * 197 * 64 * heads for heads in UNEVEN.heads)
    assert sum(counted) + attention == flops(UNEVEN)
    assert all(p.requires_grad for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) == params(UNEVEN)


def test_a_subnet_shares_no_memory_and_draws_no_random_numbers(tiny):
    before, kept = torch.get_rng_state(), {key: value.clone() for key, value in tiny.state.items()}
    network = subnet(tiny, UNEVEN)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for p in network.parameters():
            assert p.is_contiguous()
            p.zero_()
    assert all(torch.equal(value, kept[key]) for key, value in tiny.state.items())


def test_the_supernet_holds_the_given_tensors_once(tiny):
    again = AutoFormerSupernet(tiny.state, tiny.space)
    assert all(value is tiny.state[key] for key, value in again.state.items())


def test_a_saved_subnet_is_read_back(tiny):
    network = subnet(tiny, UNEVEN)
    again = AutoFormerNetwork(UNEVEN).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(logits_of(again), logits_of(network))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(tiny, dtype):
    narrow = AutoFormerSupernet({key: value.to(dtype) for key, value in tiny.state.items()}, tiny.space)
    logits, want = logits_of(subnet(narrow, UNEVEN), dtype), logits_of(subnet(tiny, UNEVEN))
    assert logits.dtype == dtype
    assert (logits.float() - want).abs().max() < (0.1 if dtype == torch.bfloat16 else 0.02) * want.std()


def test_extract_takes_architectures_of_the_space(tiny):
    whole = create(tiny.space, tiny.state)
    flat = (13, *PUBLISHED["tiny"].mlp_ratios, *PUBLISHED["tiny"].heads, 192)
    network = whole.extract(tiny.space.parse(flat))
    wanted = subnet(tiny, PUBLISHED["tiny"]).state_dict()
    assert list(network.state_dict()) == list(wanted)
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


def test_every_container_is_read(tiny):
    prefixed = {f"module.{key}": value for key, value in tiny.state.items()}
    for source in ({"model": tiny.state, "epoch": 500}, {"model": prefixed}, prefixed, tiny.state):
        assert all(value is tiny.state[key] for key, value in supernets.load("autoformer-tiny", source).state.items())


def test_other_checkpoints_are_refused(tiny):
    key = "blocks.13.attn.rel_pos_embed_v.embeddings_table_h"
    with pytest.raises(UserError, match=f"autoformer-tiny.*{key}.*missing"):
        AutoFormerSupernet({name: value for name, value in tiny.state.items() if name != key}, tiny.space)
    with pytest.raises(UserError, match=r"blocks.14.fc1.bias.*unexpected"):
        AutoFormerSupernet(tiny.state | {"blocks.14.fc1.bias": torch.ones(1024)}, tiny.space)
    with pytest.raises(UserError, match=r"head.weight.*\(10, 256\).*\(1000, 256\)"):
        AutoFormerSupernet(tiny.state | {"head.weight": torch.ones(10, 256)}, tiny.space)
    with pytest.raises(UserError, match=r"autoformer-small.*pos_embed.*\(1, 197, 256\).*\(1, 197, 448\)"):
        AutoFormerSupernet(tiny.state, spaces.load("autoformer-small"))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (AutoFormerConfig(192, (4.0,) * 15, (3,) * 15), "depth 15 must be 1 to 14"),
        (AutoFormerConfig(192, (), ()), "depth 0 must be 1 to 14"),
        (AutoFormerConfig(264, (4.0,), (3,)), "embed_dim, 264, must be a whole number from 1 to 256"),
        (AutoFormerConfig(192.5, (4.0,), (3,)), "embed_dim, 192.5, must be a whole number from 1 to 256"),
        (AutoFormerConfig(192, (4.0, 4.0), (3, 5)), "heads of layer 1, 5, must be a whole number from 1 to 4"),
        (AutoFormerConfig(192, (4.0,), (0,)), "heads of layer 0, 0, must be a whole number from 1 to 4"),
        (AutoFormerConfig(192, (4.0, 4.5), (3, 3)), "mlp ratio of layer 1, 4.5, must be above 0"),
        (AutoFormerConfig(192, (float("nan"),), (3,)), "mlp ratio of layer 0, nan, must be above 0"),
        (AutoFormerConfig(192, (0.001,), (3,)), "mlp ratio of layer 0, 0.001, must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, config, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        subnet(tiny, config)


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_supernet_fits_itself(size):
    macro = SIZES[size]
    whole = AutoFormerConfig(macro.embed_dim, (4.0,) * macro.depth, (macro.heads,) * macro.depth)
    require_fit(whole, size_of(size))
    assert params(whole) == ELEMENTS[size][1]


def test_lists_of_different_length_and_unknown_sizes_are_refused():
    with pytest.raises(UserError, match="mlp_ratios has 2 entries and heads 3"):
        AutoFormerConfig(192, (4.0, 4.0), (3, 3, 3))
    with pytest.raises(UserError, match="'large' must be one of tiny, small, base"):
        expected_keys("large")


def test_images_of_another_size_are_refused(tiny):
    with pytest.raises(UserError, match=r"\(N, 3, 224, 224\).*\(1, 3, 256, 256\)"):
        subnet(tiny, UNEVEN)(torch.zeros(1, 3, 256, 256))


def test_costs_load_without_torch():
    code = "import sys, collm_nas.spaces._autoformer_costs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
