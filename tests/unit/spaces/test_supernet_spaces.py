"""The spaces of the official supernets: published sizes, official encodings in every spelling, one form a network."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from collm_nas import spaces
from collm_nas.api import UserError

PUBLISHED_SPOS = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
TINY = (12, *[3.5] * 12, *[3] * 12, 192)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("ofa-mbv3", {"resolutions": [224]}, 7371**5),
        ("ofa-mbv3", {}, 25 * 7371**5),
        ("ofa-mbv3-w1.2", {}, 17 * 7371**5),
        ("spos-shufflenet", {}, 4**20),
        ("autoformer-tiny", {}, 280_804_921_344),
        ("autoformer-tiny", {"official_repo": True}, 1_056_964_608),
        ("autoformer-small", {}, 77_103_263_459_313),
        ("autoformer-base", {}, 6_245_364_340_204_353),
        ("autoformer-base", {"official_repo": True}, 10_108_977_168_384),
    ],
)
def test_sizes(name: str, options: dict[str, object], size: int) -> None:
    assert spaces.load(name, **options).size == size


def ofa(**changed: object) -> dict[str, object]:
    return {"ks": [7, 5, 3, 3] * 5, "e": [6, 4, 3, 3] * 5, "d": [2, 3, 4, 2, 2], "r": [224]} | changed


def test_ofa_spellings_of_one_network_are_one_architecture() -> None:
    space = spaces.load("ofa-mbv3")
    arch = space.parse(ofa())
    # Slots 3 and 4 of stage 1 (depth 2) are out of use, whatever they hold.
    other = ofa(ks=[7, 5, 7, 7, *[7, 5, 3, 3] * 4], e=[6, 4, 0, 6, *[6, 4, 3, 3] * 4])
    package = {k: v for k, v in ofa(image_size=224).items() if k != "r"}
    arrays = ofa(ks=np.array([7, 5, 3, 3] * 5), d=(2, 3, 4, 2, 2), r=224)
    for spelled in (other, package, arrays, {"wid": None, **ofa()}, str(ofa()), json.dumps({"wid": None, **ofa()})):
        assert space.parse(spelled) == arch
    assert json.loads(space.format(arch)) == space.official(arch) == ofa(ks=_smallest(7, 5, 3), e=_smallest(6, 4, 3))


def _smallest(first: int, second: int, rest: int) -> list[int]:
    return [first, second, rest, rest] * 5


def test_ofa_takes_one_number_for_all() -> None:
    space = spaces.load("ofa-mbv3")
    largest = space.parse({"ks": 7, "e": 6, "d": 4, "r": 224})
    assert space.official(largest) == {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": [224]}
    assert space.cost(largest) == {"flops": 566_170_656, "params": 7_664_760}
    assert space.cost(space.parse({"ks": 3, "e": 3, "d": 2, "r": 128})) == {"flops": 41_476_224, "params": 3_410_792}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ks": [9] * 20}, "'ks1'.*legal: 3, 5, 7"),
        ({"e": [6] * 19}, "'e' must hold 20"),
        ({"d": [2, 2, 2, 2, 5]}, "'d5'.*legal: 2, 3, 4"),
        ({"r": [226]}, "'r'.*legal: 128"),
        ({"image_size": 224}, "exactly one"),
        ({"wid": 1.0}, "wid"),
        ({"width": 1}, "'width'"),
    ],
)
def test_ofa_refuses(changed: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        spaces.load("ofa-mbv3").parse(ofa(**changed))


def test_ofa_resolutions_narrow() -> None:
    assert spaces.load("ofa-mbv3", resolutions=[160, 224]).variables[0].choices == ("160", "224")
    for wrong in ([130], [], [96]):
        with pytest.raises(UserError, match="resolution"):
            spaces.load("ofa-mbv3", resolutions=wrong)


def test_the_tutorials_flops_have_a_name_of_their_own() -> None:
    space = spaces.load("ofa-mbv3-w1.2")
    kernels, expands = "33535335777775373337", "33444443444644446643"  # the network T of the CoLLM-NAS paper
    encoded = {"ks": [*map(int, kernels)], "e": [*map(int, expands)], "d": [2, 3, 2, 3, 4], "r": [176]}
    assert space.tutorial_flops(space.parse(encoded)) == 199_718_832
    with pytest.raises(UserError, match=r"for ofa-mbv3-w1\.2 alone"):
        other = spaces.load("ofa-mbv3")
        other.tutorial_flops(other.parse(encoded))


def test_spos_spellings() -> None:
    space = spaces.load("spos-shufflenet")
    arch = space.parse(PUBLISHED_SPOS)
    text = str(PUBLISHED_SPOS)
    bare = text[1:-1]
    for spelled in (list(PUBLISHED_SPOS), np.array(PUBLISHED_SPOS), text, bare.replace(" ", ""), f"[{bare}]"):
        assert space.parse(spelled) == arch
    assert space.format(arch) == text
    assert space.cost(arch) == {"flops": 322_918_720, "params": 3_558_464}


@pytest.mark.parametrize(
    ("encoded", "words"),
    [((0,) * 19, "20 integers"), ((4,) + (0,) * 19, "'b1'.*legal: 0, 1, 2, 3"), ("0, 1, x", "cannot be read")],
)
def test_spos_refuses(encoded: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        spaces.load("spos-shufflenet").parse(encoded)


def test_autoformer_spellings() -> None:
    space = spaces.load("autoformer-tiny")
    arch = space.parse(TINY)
    config = {"layer_num": 12, "mlp_ratio": [3.5] * 12, "num_heads": [3] * 12, "embed_dim": [192] * 12}
    retrain = {"DEPTH": 12, "MLP_RATIO": [3.5] * 12, "NUM_HEADS": [3] * 12, "EMBED_DIM": 192}
    for spelled in (list(TINY), str(TINY), str(TINY)[1:-1], config, str(config), retrain):
        assert space.parse(spelled) == arch
    assert space.format(arch) == str(TINY)
    assert space.parse((12, *[4] * 12, *[3] * 12, 192)) == space.parse((12, *[4.0] * 12, *[3] * 12, 192))


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (TINY[:-1], "depth 12 takes 26 numbers"),
        ((11, *TINY[1:]), "'depth'.*legal: 12, 13, 14"),
        ((12, 5.0, *TINY[2:]), "'mlp1'.*legal: 3.0, 3.5, 4.0"),
        ({"layer_num": 12, "mlp_ratio": [3.5] * 12, "num_heads": [3] * 12}, "'embed_dim' is missing"),
        ({"depth": 12, "mlp_ratio": 3.5, "num_heads": [3] * 12, "embed_dim": 192}, "'mlp_ratio' must list"),
        ({"depth": 12, "mlp_ratio": [3.5] * 12, "num_heads": [3] * 12, "embed_dim": [192, 216]}, "the same in all"),
    ],
)
def test_autoformer_refuses(encoded: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        spaces.load("autoformer-tiny").parse(encoded)


@pytest.mark.parametrize("name", ["ofa-mbv3", "spos-shufflenet", "autoformer-tiny", "autoformer-base"])
def test_the_native_form_is_the_official_object(name: str) -> None:
    space = spaces.load(name)
    rng = random.Random(3)
    for arch in [space.sample(rng) for _ in range(20)]:
        text = space.format(arch)
        read = json.loads(text) if name.startswith("ofa") else tuple(json.loads(f"[{text[1:-1]}]"))
        assert space.parse(read) == arch
