"""Exported networks: loaded without this project they give the logits that the network has in the supernet."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from collm_nas import spaces, supernets
from collm_nas.api import UserError
from collm_nas.images import decode, opencv
from collm_nas.images.inputs import IMAGENET_MEAN, IMAGENET_STD, Inputs
from collm_nas.supernets import base
from collm_nas.supernets.autoformer import AutoFormerConfig, AutoFormerNetwork
from collm_nas.supernets.export import export_network, facts, preparation, requirements, weights

SMALL = Inputs.small(8, 3)
NEAR = 1e-4
BLOCKED = "import sys; sys.modules['collm_nas'] = None\n"


def lively(supernet):
    """With statistics and affine parameters that a training would leave, instead of the identity."""
    generator = torch.Generator().manual_seed(0)
    for key, value in supernet.state.items():
        if key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var") or (key.endswith("weight") and value.dim() == 1):
            value.uniform_(0.5, 1.5, generator=generator)
    return supernet


def result_of(space, arch):
    """What `result.json` of a search holds, as far as export reads it."""
    native = space.format(arch)
    return {
        "best": {"arch": native, "fitness": 91.5, "error": 0.7, "report": {"test": 90.25}, "costs": space.cost(arch)},
        "counts": {"evaluated": 20},
        "history": [{"arch": native, "proposer": "model"}],
        "ended": "budget",
        "seed": 3,
        "protocol": {
            "source": "supernet",
            "supernet": "/elsewhere/nets/supernet.safetensors",
            "sha256": "ab" * 32,
            "data": {"name": "digits", "digest": "cd" * 32, "images": {"train": 597, "valid": 800, "test": 400}},
            "images": "fast",
            "fitness": "valid top-1",
            "budget": 20,
            "caps": {"flops": 3e5},
            "optimizer": "collm",
        },
        "versions": {"python": "3.11"},
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a network of digits-mbconv; the supernet, its space and the architecture."""
    space = spaces.load("digits-mbconv")
    supernet, arch = lively(supernets.fresh(space)), space.sample(random.Random(1))
    out = tmp_path_factory.mktemp("exported") / "net"
    told = facts.of(result_of(space, arch), space, tuple("0123456789"))
    config = export_network(base.extract(supernet, arch), supernet.inputs(arch), out, told)
    return SimpleNamespace(out=out, supernet=supernet, space=space, arch=arch, config=config)


def inside(supernet, arch, x_NCHW):
    """Logits as the supernet computes them: the architecture's structure called on the shared tensors."""
    tensors = {key: value.detach() for key, value in supernet.weights(arch).items()}
    with torch.no_grad():
        return functional_call(supernet.network(arch).eval(), tensors, (x_NCHW,))


def export(network, out, inputs=SMALL, **options):
    return export_network(network.eval(), inputs, out, FACTS, **options)


SPACE = spaces.load("digits-mbconv")
FACTS = facts.of(result_of(SPACE, SPACE.sample(random.Random(0))), SPACE, ("cat", "dog"))


class Tiny(nn.Module):
    """Two classes from the mean colour."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x_NCHW):
        return self.head(self.bn(x_NCHW).mean((2, 3)))


# --- what is in the folder --------------------------------------------------------------------------------------------


def test_the_folder_is_whole(exported):
    names = {"model.safetensors", "model.pt2", "model.onnx", "config.json", "README.md"}
    assert {path.name for path in exported.out.iterdir()} == names
    assert [path.name for path in exported.out.parent.iterdir()] == ["net"]
    assert json.loads((exported.out / "config.json").read_text()) == json.loads(json.dumps(exported.config))
    for name, told in exported.config["files"].items():
        assert told["bytes"] == (exported.out / name).stat().st_size
    assert set(exported.config["check"]["difference"]) == {"model.pt2", "model.onnx"}
    assert max(exported.config["check"]["difference"].values()) < NEAR


def test_the_code_of_the_card_runs_without_this_project(exported, tmp_path):
    """The card's own code, in a process that cannot import us, on an image file: the supernet's logits."""
    Image.effect_noise((8, 8), 90).save(tmp_path / "image.png")
    for path in exported.out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    prepare, torch_code, onnx_code, tensors = re.findall(
        r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.S
    )
    code = "\n".join(
        [BLOCKED, prepare, torch_code, "found = [logits.numpy()]", onnx_code, "found.append(logits)", tensors]
    )
    code += (
        "assert sum(w.size for w in map(np.asarray, weights.values())) > 1000\nnp.save('found.npy', np.stack(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pixels_N1HW = torch.from_numpy(np.asarray(Image.open(tmp_path / "image.png")).copy())[None, None]
    x_NCHW = exported.supernet.inputs(exported.arch).normalized(pixels_N1HW, torch.float32)
    want = inside(exported.supernet, exported.arch, x_NCHW)
    for logits in torch.from_numpy(np.load(tmp_path / "found.npy")):
        assert (logits - want).abs().max() < NEAR * want.std()


def test_any_batch_gives_the_supernets_logits(exported, tmp_path):
    x_NCHW = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    np.save(tmp_path / "x.npy", x_NCHW.numpy())
    code = f"""{BLOCKED}
import numpy as np, onnxruntime, torch
x = np.load({str(tmp_path / "x.npy")!r})
network = torch.export.load({str(exported.out / "model.pt2")!r}).module()
session = onnxruntime.InferenceSession({str(exported.out / "model.onnx")!r})
for n in (7, 1):
    with torch.no_grad():
        np.save({str(tmp_path)!r} + f"/torch{{n}}.npy", network(torch.from_numpy(x[:n])).numpy())
    np.save({str(tmp_path)!r} + f"/onnx{{n}}.npy", session.run(["logits"], {{"images": x[:n]}})[0])
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    want = inside(exported.supernet, exported.arch, x_NCHW)
    for n in (7, 1):
        for which in ("torch", "onnx"):
            found = torch.from_numpy(np.load(tmp_path / f"{which}{n}.npy"))
            assert (found - want[:n]).abs().max() < NEAR * want.std()


def test_config_and_safetensors_rebuild_the_network(exported):
    config = json.loads((exported.out / "config.json").read_text())
    space = spaces.from_spec(config["space"])
    network = supernets.fresh(space).network(space.parse(config["architecture"]["native"]))
    base.filled(network, load_file(exported.out / "model.safetensors")).eval()
    x_NCHW = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x_NCHW), inside(exported.supernet, exported.arch, x_NCHW))


def test_config_says_what_the_network_is_and_was_found_to_be(exported):
    config = exported.config
    assert config["costs"] == exported.space.cost(exported.arch)
    assert config["classes"] == list("0123456789")
    assert (config["inputs"]["side"], config["inputs"]["order"], config["inputs"]["channels"]) == (8, "gray", 1)
    assert config["structure"]["plan"]["classes"] == 10 and config["structure"]["config"]["depths"]
    searched, read = config["accuracies"]
    assert (searched["value"], searched["error"], searched["use"]) == (91.5, 0.7, "searched for")
    assert (read["name"], read["value"], read["use"]) == ("test", 90.25, "read once")
    stem = next(layer for layer in config["layers"] if layer["name"] == "first_conv.conv")
    assert stem["kind"] == "Conv2d" and "kernel_size=(3, 3)" in stem["numbers"]
    kinds = {layer["name"] for layer in config["layers"]}
    assert {key.rpartition(".")[0] for key in load_file(exported.out / "model.safetensors")} <= kinds


def test_the_card_names_figures_hashes_and_limits(exported):
    card = (exported.out / "README.md").read_text()
    for text in ("91.5 ± 0.7", "90.25", "ab" * 32, "cd" * 32, "seed 3", "at most 300,000 multiply-adds", "opset 18"):
        assert text in card
    assert exported.space.format(exported.arch) in card
    assert "/elsewhere" not in card + (exported.out / "config.json").read_text()


def test_onnx_is_one_file_of_the_named_opset(exported):
    import onnx

    path = exported.out / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [
        ("", exported.config["files"]["model.onnx"]["opset"])
    ]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_no_path_of_this_machine_travels_along(exported, repository):
    for name in ("model.onnx", "model.pt2", "model.safetensors", "config.json"):
        held = (exported.out / name).read_bytes()
        assert str(repository).encode() not in held
        assert b".py" not in held
    assert b"collm_nas" not in (exported.out / "model.onnx").read_bytes()


# --- every family, any network ----------------------------------------------------------------------------------------


def test_spos_exports(tmp_path):
    """Its forward refuses images of another size, which tracing must survive."""
    space = spaces.load("cifar-shufflenet")
    supernet, arch = lively(supernets.fresh(space)), space.make([i % 4 for i in range(len(space.variables))])
    check_network(base.extract(supernet, arch), supernet.inputs(arch), tmp_path / "net")


def test_autoformer_exports(tmp_path):
    torch.manual_seed(0)
    network = AutoFormerNetwork(AutoFormerConfig(64, (2.0, 1.0), (1, 2)))
    check_network(network, Inputs(224, IMAGENET_MEAN, IMAGENET_STD, 256, "bicubic"), tmp_path / "net")


def check_network(network, inputs, out):
    """Besides what `export_network` checks itself: other images, other batch sizes."""
    import onnxruntime

    export(network, out, inputs)
    x_NCHW = torch.randn(2, inputs.channels, inputs.side, inputs.side, generator=torch.Generator().manual_seed(1))
    program = torch.export.load(out / "model.pt2").module()
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    with torch.no_grad():
        want, found = network(x_NCHW), program(x_NCHW)
    assert (found - want).abs().max() < NEAR * want.std()
    assert np.abs(session.run(None, {"images": x_NCHW.numpy()})[0] - want.numpy()).max() < NEAR * want.std()


def test_the_network_is_left_as_it_was(tmp_path):
    network = Tiny().double().to(memory_format=torch.channels_last).train()
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    export_network(network, SMALL, tmp_path / "net", FACTS, onnx=False)
    assert network.training
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())
    stored = load_file(tmp_path / "net" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32, torch.int64}


def test_other_weights_take_the_place_of_the_inherited(tmp_path):
    from collm_nas.supernets import store

    torch.manual_seed(0)
    trained, network = Tiny(), Tiny()
    rows = [{"name": "test", "value": 97.5, "use": "read once"}]
    how = {"arch": "2 1", "from": "fresh", "recipe": {"epochs": 9, "rate": 0.1}}
    store.save(tmp_path / "own.safetensors", trained.state_dict(), {**how, "accuracies": rows})
    told = weights.load(network, tmp_path / "own.safetensors", "2 1")
    with pytest.raises(UserError, match="the weights of 2 1, not of the run's winner 2 2"):
        weights.load(network, tmp_path / "own.safetensors", "2 2")
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in network.state_dict().items())
    known = facts.of(result_of(SPACE, SPACE.sample(random.Random(0))), SPACE, ("cat", "dog"), told)
    config = export_network(network, SMALL, tmp_path / "net", known, onnx=False)
    assert config["weights"]["kind"] == "retrained" and len(config["weights"]["sha256"]) == 64
    assert config["accuracies"][0] == {**rows[0], "weights": "retrained"}
    card = (tmp_path / "net" / "README.md").read_text()
    assert "97.5" in card and config["weights"]["sha256"] in card and "not those of the weights" in card
    assert "trained alone, from fresh weights (epochs 9, rate 0.1)" in card
    bad = save(tmp_path / "bad.safetensors", {**trained.state_dict(), "head.weight": torch.ones(5, 3)})
    with pytest.raises(UserError, match=r"head.weight.*\(5, 3\).*\(2, 3\)"):
        weights.load(network, bad, "2 1")


def save(path, state):
    from safetensors.torch import save_file

    save_file(state, path)
    return path


# --- how images are prepared ------------------------------------------------------------------------------------------


class OneImage:
    """An `images.sources.Store` of one photograph-like image."""

    def __init__(self, size):
        width, height = size
        rng = np.random.default_rng(0)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        noise = rng.integers(0, 40, (height, width, 3))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) * (215 / 255) + noise
        self.image = Image.fromarray(pixels.astype(np.uint8))

    def name(self, number):
        return "one image"

    def read(self, numbers):
        file = io.BytesIO()
        self.image.save(file, "png")
        yield range(1), [file]


@pytest.mark.parametrize("size", [(41, 67), (90, 53), (32, 32)])
@pytest.mark.parametrize(
    "inputs",
    [
        Inputs.small(8, 1),
        Inputs.small(32, 3),
        Inputs(24, IMAGENET_MEAN, IMAGENET_STD, resize=28),
        Inputs(24, IMAGENET_MEAN, IMAGENET_STD, resize=27, filter="bicubic"),
        Inputs(24, (0.0,) * 3, (1 / 255,) * 3, resize=29, filter="opencv", order="BGR"),
    ],
    ids=["gray", "small", "bilinear", "bicubic", "opencv"],
)
def test_the_cards_preparation_is_ours(inputs, size, tmp_path, monkeypatch):
    """OpenCV is stood in for by our own resize, which is bit-identical to it and tested as that."""
    fake = SimpleNamespace(
        INTER_LINEAR=1, resize=lambda a, s, interpolation: np.asarray(opencv.resize(Image.fromarray(a), s))
    )
    monkeypatch.setitem(sys.modules, "cv2", fake)
    store = OneImage(size)
    store.image.save(tmp_path / "image.png")
    names = {}
    told = {**{key: getattr(inputs, key) for key in inputs.__slots__}, "channels": inputs.channels}
    exec(preparation.code(told), names)
    found = torch.from_numpy(names["prepare"](tmp_path / "image.png"))
    want = inputs.normalized(decode.pixels(store, [0], inputs), torch.float32)
    assert found.shape == want.shape and found.dtype == want.dtype
    assert torch.allclose(found, want, atol=1e-4, rtol=1e-5)
    text = "\n".join(preparation.words(told))
    assert str(inputs.side) in text and (inputs.resize is None or str(inputs.resize) in text)
    assert ("0 to 255" in text) == (inputs.filter == "opencv")


# --- what is refused --------------------------------------------------------------------------------------------------


class Restless(Tiny):
    """Not a function of its images: no export can equal it."""

    def forward(self, x_NCHW):
        return F.dropout(super().forward(x_NCHW), 0.5, training=True)


class Branching(Tiny):
    def forward(self, x_NCHW):
        return super().forward(x_NCHW if x_NCHW.sum() > 0 else -x_NCHW)


class OnePair(Tiny):
    def forward(self, x_NCHW):
        return super().forward(x_NCHW.reshape(2, 3, 8, 8))


class Unknown(Tiny):
    def forward(self, x_NCHW):
        return super().forward(x_NCHW) * float("nan")


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (Restless(), "nothing is exported: model.pt2 gives other logits"),
        (Unknown(), "nothing is exported: the network's logits are not finite"),
        (Branching(), "torch.export cannot trace Branching"),
        (OnePair(), "torch.export cannot trace OnePair"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_network_that_cannot_be_exported_leaves_nothing(network, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        export(network, tmp_path / "net", onnx=False)
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_left(tmp_path, monkeypatch):
    """The written file is checked, not the program in memory: here writing changes a weight."""
    whole = torch.export.save

    def spoiled(program, path):
        program.state_dict["head.bias"] = nn.Parameter(program.state_dict["head.bias"] + 0.01)
        whole(program, path)

    monkeypatch.setattr(torch.export, "save", spoiled)
    torch.manual_seed(0)
    with pytest.raises(UserError, match=r"model.pt2 gives other logits"):
        export(Tiny(), tmp_path / "net", onnx=False)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="full is not empty"):
        export(Tiny(), tmp_path / "full", onnx=False)
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"
    with pytest.raises(UserError, match=r"mine.txt is a file"):
        export(Tiny(), tmp_path / "full" / "mine.txt", onnx=False)
    with pytest.raises(UserError, match="is no folder that you may write in"):
        export(Tiny(), tmp_path / "full" / "mine.txt" / "net", onnx=False)
    (tmp_path / "empty").mkdir()
    export(Tiny(), tmp_path / "empty", onnx=False)
    export(Tiny(), tmp_path / "new" / "deep", onnx=False)
    assert (tmp_path / "empty" / "model.pt2").is_file() and (tmp_path / "new" / "deep" / "model.pt2").is_file()


def test_without_the_extra_its_command_is_named_and_nothing_written(tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        requirements.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else real(name)
    )
    with pytest.raises(UserError, match=r"pip install .*onnx onnxruntime onnxscript.*--no-onnx"):
        export(Tiny(), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    config = export(Tiny(), tmp_path / "net", onnx=False)
    assert set(config["files"]) == {"model.safetensors", "model.pt2"}
    assert "onnx" not in (tmp_path / "net" / "README.md").read_text().lower()
