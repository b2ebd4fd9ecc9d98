"""`collm-nas export RUN` on a real run: a supernet of the built-in digits, three random candidates, the winner out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collm_nas import images, search, spaces, supernets
from collm_nas.cli import main
from collm_nas.evaluators import supernet as evaluators
from collm_nas.supernets import store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`run`, the run's folder; `supernet`, the folder of its weights; `export`, what the command in a process of its
    own wrote into the run, and `done`, that process."""
    folder = tmp_path_factory.mktemp("made")
    data, space = images.open("digits", valid=800), spaces.load("digits-mbconv")
    facts = {"space": space.name, "options": {}, "data": {"source": "digits", **data.describe()}}
    (folder / "net").mkdir()
    store.save(folder / "net" / store.FILE, supernets.fresh(space).state, facts)
    evaluator = evaluators.load(None, folder / "net")
    search(evaluator.space, evaluator, budget=3, init=3, optimizer="random", out=folder / "run")
    done = subprocess.run(
        [sys.executable, "-m", "collm_nas", "export", str(folder / "run")], capture_output=True, text=True, timeout=200
    )
    return SimpleNamespace(
        folder=folder, run=folder / "run", supernet=folder / "net", export=folder / "run" / "export", done=done
    )


@pytest.fixture
def moved(made, tmp_path):
    """A copy of the run, and of the supernet beside it; the journal still names the old place of the supernet."""
    shutil.copytree(made.run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    shutil.copytree(made.supernet, tmp_path / "net")
    return tmp_path


def refused(capsys, *arguments):
    """The one sentence on stderr."""
    assert main(["export", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith("collm-nas: error: ")
    return err


def test_the_winner_leaves_with_a_table_and_no_chatter(made):
    assert made.done.returncode == 0, made.done.stderr
    assert made.done.stderr == ""
    best = json.loads((made.run / "result.json").read_text())["best"]
    first, *_, last = made.done.stdout.splitlines()
    assert first.startswith("network") and last.split() == ["exported", *str(made.export).split()]
    for text in (
        f"{best['fitness']:.6g}",
        f"{best['costs']['params']:,.0f} parameters",
        "allowed 0.0001",
        "model.onnx",
    ):
        assert text in " ".join(made.done.stdout.split())
    assert {path.name for path in made.export.iterdir()} == {
        "model.safetensors", "model.pt2", "model.onnx", "config.json", "README.md"
    }  # fmt: skip


def test_what_left_is_what_was_scored(made):
    """The programs' logits are those of the evaluator's network, its BatchNorm statistics included."""
    import onnxruntime

    header = json.loads((made.run / "journal.jsonl").read_text().splitlines()[0])
    evaluator = evaluators.reopen(header["protocol"])
    arch = evaluator.space.parse(json.loads((made.run / "result.json").read_text())["best"]["arch"])
    pixels_NCHW = images.open("digits", valid=800).test.pixels(evaluator.inputs(arch))[:20]
    x_NCHW = evaluator.inputs(arch).normalized(pixels_NCHW, torch.float32)
    with torch.no_grad():
        want = evaluator.network(arch)(x_NCHW)
        found = torch.export.load(made.export / "model.pt2").module()(x_NCHW)
    session = onnxruntime.InferenceSession(str(made.export / "model.onnx"))
    for logits in (found, torch.from_numpy(session.run(None, {"images": x_NCHW.numpy()})[0])):
        assert (logits - want).abs().max() < 1e-4 * want.std()
    means = [v for k, v in load_file(made.export / "model.safetensors").items() if k.endswith("running_mean")]
    assert all(bool(mean.any()) for mean in means)  # a fresh supernet's are zero


def test_config_and_card_tell_the_runs_figures(made):
    config = json.loads((made.export / "config.json").read_text())
    result = json.loads((made.run / "result.json").read_text())
    assert config["architecture"]["native"] == result["best"]["arch"]
    assert [row["value"] for row in config["accuracies"]] == [
        result["best"]["fitness"],
        *result["best"]["report"].values(),
    ]
    assert config["classes"] == list("0123456789")
    assert config["protocol"]["sha256"] == result["protocol"]["sha256"]
    assert config["protocol"]["supernet"] == store.FILE
    card = (made.export / "README.md").read_text()
    assert result["protocol"]["sha256"] in card and result["protocol"]["data"]["digest"] in card


def test_an_export_is_not_written_over(made, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in made.export.iterdir()}
    assert "export is not empty" in refused(capsys, made.run)
    assert {path.name: path.stat().st_mtime_ns for path in made.export.iterdir()} == before


def test_a_supernet_that_is_elsewhere_now(made, moved, capsys):
    shutil.move(made.supernet, made.folder / "away")
    try:
        assert str(made.supernet) in refused(capsys, moved / "run", "--no-onnx")
        arguments = [
            "export",
            moved / "run",
            "--no-onnx",
            "--supernet",
            moved / "net",
            "--data",
            "digits",
            "--out",
            moved / "o",
        ]
        assert main(list(map(str, arguments))) == 0
    finally:
        shutil.move(made.folder / "away", made.supernet)
    assert {path.name for path in (moved / "o").iterdir()} == {
        "model.safetensors",
        "model.pt2",
        "config.json",
        "README.md",
    }
    first, second = (load_file(folder / "model.safetensors") for folder in (made.export, moved / "o"))
    assert all(torch.equal(first[key], value) for key, value in second.items())


def test_changed_weights_are_no_longer_the_runs(moved, capsys):
    path = moved / "net" / store.FILE
    state, facts = load_file(path), store.facts(path)
    store.save(path, {key: value + 1 for key, value in state.items()}, facts)
    assert "hash" in refused(capsys, moved / "run", "--supernet", path, "--no-onnx")
    assert not (moved / "run" / "export").exists()


def test_other_images_are_refused(moved, capsys):
    rng = np.random.default_rng(0)
    from PIL import Image

    for name in "0123456789":
        (moved / "photos" / "train" / name).mkdir(parents=True)
        for i in range(90):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(moved / f"photos/train/{name}/{i}.png")
    assert "hash differs" in refused(capsys, moved / "run", "--data", moved / "photos", "--no-onnx")
    assert not (moved / "run" / "export").exists()


def test_the_weights_of_the_winners_own_training(moved, capsys):
    path = moved / "run" / "retrained" / "model.safetensors"
    there = [str(moved / "run"), "--supernet", str(moved / "net")]
    assert f"there is no {path}" in refused(capsys, *there, "--no-onnx", "--weights", "retrained")
    assert main(["supernet", "retrain", *there, "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["export", *there, "--no-onnx", "--weights", "retrained"]) == 0
    stored = load_file(moved / "run" / "export" / "model.safetensors")
    assert all(torch.equal(stored[key], value) for key, value in load_file(path).items())
    config = json.loads((moved / "run" / "export" / "config.json").read_text())
    rows = {(row["name"], row["weights"]): row["value"] for row in config["accuracies"]}
    own = json.loads((path.parent / "result.json").read_text())["accuracies"]
    assert rows["test", "retrained"] == next(
        r["value"] for r in own if (r["name"], r["weights"]) == ("test", "retrained")
    )
    assert rows["test", "inherited"] != rows["test", "retrained"]
    assert config["weights"]["training"]["recipe"]["epochs"] == 1


def test_weights_of_another_network_are_refused(made, moved, capsys):
    state, path = load_file(made.export / "model.safetensors"), moved / "some.safetensors"
    arguments = [moved / "run", "--supernet", moved / "net", "--no-onnx", "--weights", path]
    store.save(path, dict(list(state.items())[1:]), {})
    assert f"{next(iter(state))!r} is missing" in refused(capsys, *arguments)
    store.save(path, state, {"arch": "another"})
    assert "holds the weights of another, not of the run's winner" in refused(capsys, *arguments)
    assert not (moved / "run" / "export").exists()


def test_runs_without_a_supernet_are_told_what_export_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--optimizer", "random", "--budget", "3", "--init", "3", "--out", "run"]) == 0
    capsys.readouterr()
    said = refused(capsys, "run")
    assert "run was scored by digits-cells" in said and "--supernet F --data DIR" in said
    assert "holds no journal.jsonl" in refused(capsys, tmp_path)
    assert not (tmp_path / "run" / "export").exists()


def test_a_run_that_found_nothing_has_nothing_to_export(moved, capsys):
    path = moved / "run" / "journal.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps({**e, **({"feasible": False} if "feasible" in e else {})}) + "\n" for e in events)
    )
    assert "found nothing within its caps" in refused(capsys, moved / "run")


def test_without_the_extra_nothing_is_scored_or_written(moved, capsys, monkeypatch):
    from collm_nas.supernets.export import requirements

    monkeypatch.setattr(requirements, "PACKAGES", ("onnx_of_nobody",))
    said = refused(capsys, moved / "run")
    assert "pip install -c constraints.txt onnx_of_nobody" in said and "--no-onnx" in said
    assert not (moved / "run" / "export").exists()
