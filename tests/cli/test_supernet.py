"""`collm-nas supernet ...` on the digits: trained, scored, the winner trained alone; and what users get wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from collm_nas import search, spaces, supernets
from collm_nas.cli import main
from collm_nas.evaluators import supernet as evaluators
from collm_nas.supernets import store

ARCH = '{"d": [1, 2, 2], "ks": [5, 3, 3, 3, 5, 3, 5, 3, 3], "e": [2, 2, 2, 2, 3, 2, 3, 3, 2]}'
TRAIN = ("train", "--epochs", "1", "--train-batch", "64")


def run(*arguments: object) -> int:
    """`collm-nas supernet` in this process."""
    return main(["supernet", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supernet after one epoch."""
    folder = tmp_path_factory.mktemp("trained") / "digits"
    assert run(*TRAIN, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty coloured images of two classes."""
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(("ant", "bee")):
        (root / "train" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (32, 32), (10 * i, 200 * label, 50)).save(root / "train" / name / f"{i}.png")
    return root


def test_a_training_leaves_its_file_and_its_log(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == ["log.jsonl", "supernet.safetensors"]
    facts = store.facts(trained / store.FILE)
    assert facts["space"] == "digits-mbconv" and facts["recipe"]["epochs"] == 1 and facts["data"]["source"] == "digits"
    assert facts["classes"] == list("0123456789") and len(facts["data"]["digest"]) == 64
    [line] = (trained / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["epoch"] == 1


def test_a_finished_one_is_shown_again_and_not_touched(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {path: path.read_bytes() for path in trained.iterdir()}
    assert run(*TRAIN, "--out", trained) == 0
    out, err = capsys.readouterr()
    assert not err, "no epoch is trained"
    first, *_, last = out.splitlines()
    assert re.fullmatch(r"largest +\d+\.\d\d ± \d\.\d\d % of \d+ valid images", first)
    assert f"collm-nas search --supernet {trained}" in last
    assert run(*TRAIN, "--seed", "1", "--out", trained) == 2
    assert f"{trained} holds a supernet trained with another recipe" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in trained.iterdir()} == held


def test_coloured_images_and_other_classes(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = ("--space", "cifar-shufflenet", "--data", photos, "--valid", "0.25")
    assert run("train", *space, "--epochs", "1", "--train-batch", "16", "--out", tmp_path / "net") == 0
    out, err = capsys.readouterr()
    assert err.startswith("epoch 1 of 1, loss ") and f"--data {photos}" in out
    assert store.facts(tmp_path / "net" / store.FILE)["options"] == {"classes": 2}
    arch = ", ".join("0123" * 5)[: 3 * len(spaces.load("cifar-shufflenet").variables) - 2]
    assert run("evaluate", "--supernet", tmp_path / "net", "--data", photos, arch) == 0
    assert re.search(r"valid \d+\.\d\d ± \d+\.\d\d, flops [\d,]+, params [\d,]+\n", capsys.readouterr().out)


def test_evaluate_prints_what_the_evaluator_finds(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluator = evaluators.load(None, trained)
    arch = evaluator.space.parse(ARCH)
    score, costs = evaluator.score(arch), evaluator.space.cost(arch)
    assert run("evaluate", "--supernet", trained, "--test", ARCH, ARCH.replace("[1, 2, 2]", "[1, 1, 1]")) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert not err and second != first
    assert first == (
        f"{ARCH}: valid {score.accuracy:.2f} ± {score.error:.2f}, test {evaluator.report(arch)['test']:.2f}, "
        f"flops {costs['flops']:,.0f}, params {costs['params']:,.0f}"
    )


def test_cost_needs_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    whole = '{"ks": 7, "e": 6, "d": 4, "r": 224}'
    assert run("cost", "--space", "ofa-mbv3", whole) == 0
    assert capsys.readouterr().out.endswith(": flops 566,170,656, params 7,664,760\n")
    assert run("cost", "--space", "ofa-mbv3-w1.2", whole) == 0
    assert re.search(r"flops [\d,]+, params [\d,]+, flops by the tutorial's table [\d,]+\n", capsys.readouterr().out)


def test_import_takes_containers_prefixes_and_old_spellings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = supernets.fresh(spaces.load("digits-mbconv"), 4).state
    old = {"module." + re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", k): v for k, v in state.items()}
    torch.save({"state_dict": old, "epoch": 3}, tmp_path / "official.pth.tar")
    out = tmp_path / "digits.safetensors"
    assert run("import", tmp_path / "official.pth.tar", "--space", "digits-mbconv", "--out", out) == 0
    said = capsys.readouterr().out
    elements = sum(value.numel() for value in state.values())
    assert f"{len(state)} tensors, {elements:,} elements, sha256 {store.sha256(out)}" in said
    read = load_file(out)
    assert set(read) == set(state) and all(torch.equal(read[key], value) for key, value in state.items())
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["collm_nas"])["space"] == "digits-mbconv"
    assert run("evaluate", "--supernet", out, "--data", "digits", ARCH) == 0, "it names its space now"


# --- the winner -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(trained: Path) -> Path:
    """The folder of a run of three random candidates."""
    evaluator = evaluators.load(None, trained)
    search(evaluator.space, evaluator, budget=3, init=3, optimizer="random", out=trained.parent / "run")
    return trained.parent / "run"


def test_the_winner_is_trained_once(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(searched, tmp_path / "run")
    options = (copy, "--epochs", "2", "--limit", "128")
    assert run("retrain", *options) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in err.splitlines()] == ["epoch 1 of 2", "epoch 2 of 2"]
    result = json.loads((copy / "retrained" / "result.json").read_text())
    best = json.loads((copy / "result.json").read_text())["best"]
    inherited = next(row for row in result["accuracies"] if row["name"] == "valid")
    assert inherited["value"] == best["fitness"] and inherited["error"] == pytest.approx(best["error"])
    network, how, valid, test, weights = out.splitlines()
    assert network.split(maxsplit=1) == ["network", best["arch"]]
    assert "from fresh weights, 2 epochs" in how
    assert f"inherited {best['fitness']:.2f} ± {best['error']:.2f}, retrained " in valid
    assert test.endswith(" % of 400 images") and "export" in weights

    held = {path: path.read_bytes() for path in (copy / "retrained").iterdir()}
    assert run("retrain", *options) == 0
    again, err = capsys.readouterr()
    assert again.splitlines() == [f"{copy / 'retrained'} is finished already; nothing was changed", *out.splitlines()]
    assert not err
    assert run("retrain", *options, "--from", "inherited") == 2
    assert "trained with from fresh, not inherited" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (copy / "retrained").iterdir()} == held


# --- what is refused --------------------------------------------------------------------------------------------------

CASES = [
    ("train --space nowhere", "unknown space 'nowhere'"),
    ("train --space digits-cells --data digits", "no supernet"),
    ("train --space cifar-mbconv", "needs images: give --data"),
    ("train --space cifar-mbconv --data digits", "is for RGB images, but those of digits are gray"),
    ("train --data PHOTOS", "is for gray images, but those of"),
    ("train --data nowhere", "images 'nowhere': there is no such folder"),
    ("train --space autoformer-tiny --data PHOTOS", "tells 1000 classes apart, but"),
    ("train --valid 0", "no image is held out"),
    ("train --valid 1397", "cannot be held out of 1397 train images"),
    ("train --device cuda:7", "--device 'cuda:7' is not on this machine; it has cpu"),
    ("train --epochs 0", "--epochs must be at least 1"),
    ("train --rule triple", "legal: sandwich, single"),
    ("train --rate nan", "--rate"),
    ("train --out FILE", "cannot be made"),
    ("evaluate --supernet nowhere A", "--supernet nowhere: there is no such file"),
    ("evaluate --supernet UNFINISHED A", "there is no such file; finish its training"),
    ("evaluate --supernet FILE A", "does not say what it is a supernet of; give --space, one of autoformer-base"),
    ("evaluate --supernet FILE --space digits-mbconv --data digits A", "refused, and not executed"),
    ("evaluate --supernet nowhere:net --data digits A", "there is no module 'nowhere'"),
    ("evaluate --supernet TRAINED --space cifar-mbconv A", "is a supernet of digits-mbconv, not of cifar-mbconv"),
    ("evaluate --supernet TRAINED --valid 50 A", "was trained with 1000 held out; leave --valid out"),
    ("evaluate --supernet TRAINED --data PHOTOS A", "photos"),
    ("evaluate --supernet TRAINED --protocol slow A", "legal: fast, ofa, spos, autoformer"),
    ("evaluate --supernet TRAINED --protocol spos ARCH", "--protocol spos chooses images that"),
    ("evaluate --supernet TRAINED A", "'d1' cannot be read at 'A'; legal: 1, 2, 3"),
    ("evaluate --supernet TRAINED", "required: ARCH"),
    ("cost --space digits-mbconv A", "'d1' cannot be read"),
    ("cost A", "required: --space"),
    ("import FILE --space digits-mbconv --out new.pth", "must end in .safetensors"),
    ("import FILE --space digits-mbconv --out FILE.safetensors", "no plain checkpoint of tensors: Unsupported operand"),
    ("import TRAINED/supernet.safetensors --space ofa-mbv3 --out new.safetensors", "has shape"),
    ("import TRAINED/supernet.safetensors --space digits-mbconv --out no/new.safetensors", "cannot write no/new"),
    ("import TRAINED/supernet.safetensors --space digits-mbconv --out TRAINED/supernet.safetensors", "exists"),
    ("verify --supernet TRAINED --data digits", "no subnet of a supernet of digits-mbconv is published"),
    ("retrain nowhere", "holds no journal.jsonl"),
    ("retrain RUN --from old", "legal: fresh, inherited"),
    ("retrain RUN --epochs 0", "--epochs must be at least 1"),
    ("retrain RUN --data PHOTOS", "photos"),
    ("frobnicate", "invalid choice: 'frobnicate'"),
    ("", "required: ACTION"),
]


@pytest.mark.parametrize(("line", "sentence"), CASES, ids=[line for line, _ in CASES])
def test_one_sentence(
    line: str,
    sentence: str,
    trained: Path,
    searched: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "checkpoint.pt").write_text("")
    (tmp_path / "file").write_text("neither weights nor images")
    places = {
        "TRAINED": trained, "RUN": searched, "PHOTOS": photos, "FILE": "file", "UNFINISHED": "unfinished",
    }  # fmt: skip
    words = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in line.split()]
    words = [ARCH if word == "ARCH" else word for word in words]
    before = sorted(tmp_path.rglob("*")), sorted(trained.parent.rglob("*"))
    try:
        status = run(*words)
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status == 2
    assert err.startswith("collm-nas: error: ") and err.count("\n") == 1 and sentence in err
    assert not out
    assert (sorted(tmp_path.rglob("*")), sorted(trained.parent.rglob("*"))) == before


@pytest.mark.parametrize("action", ["train", "evaluate", "verify", "retrain", "import", "cost"])
def test_help_is_light(action: str) -> None:
    code = f"""
import sys
from collm_nas.cli import main
try:
    main(["supernet", {action!r}, "--help"])
except SystemExit as end:
    assert end.code == 0, end.code
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, *_, modules = done.stdout.splitlines()
    assert first.startswith(f"usage: collm-nas supernet {action}")
    assert not {"numpy", "torch", "PIL", "safetensors", "sklearn"} & set(modules.split())
