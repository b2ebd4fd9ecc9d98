"""The main job: the embedded model searches the built-in table. No network, resumable, and it says what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collm_nas import open_search, search, spaces
from collm_nas.app import EMBEDDED
from collm_nas.cli import main
from collm_nas.evaluators import table

SMALL: dict[str, Any] = {"budget": 20, "init": 5, "seed": 1}
CUT = """
import os, sys

def cut(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"):
        sys.stderr.write(f"the network was asked for: {event} {arguments}\\n")
        sys.stderr.flush()
        os._exit(99)

sys.addaudithook(cut)
"""


@pytest.fixture(scope="module")
def problem() -> tuple[Any, Any]:
    space = spaces.load("digits-cells")
    return space, table.load(space, "digits-cells", "valid", ["test"])


@pytest.fixture(scope="module")
def whole(problem: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run."""
    out = tmp_path_factory.mktemp("embedded") / "run"
    search(*problem, out=out, **SMALL)
    return out


def result(run: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((run / "result.json").read_text())
    return held


@pytest.mark.slow
def test_without_arguments_and_without_network(tmp_path: Path) -> None:
    code = CUT + "from collm_nas.cli import main\nsys.exit(main(['search']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    held = result(tmp_path / "run-1")
    assert held["counts"]["evaluated"] == 100 and held["ended"] == "budget" and held["seen"] == "unseen"
    model = held["counts_by_proposer"]["model"]
    assert model["attempted"] == model["valid"] == model["unique"] == model["evaluated"] == 90
    assert set(held["best"]["report"]) == {"test"} and {"flops", "params"} <= set(held["best"]["costs"])
    assert held["best"]["arch"] in done.stdout and "unseen" in done.stdout
    page = (tmp_path / "run-1" / "report.html").read_text()
    assert "://" not in page and "Round 1" in page


def test_the_network_cut_can_be_noticed() -> None:
    code = CUT + "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 99


def test_the_generator_sees_the_strategy_and_nothing_else(whole: Path) -> None:
    events = [json.loads(line) for line in (whole / "journal.jsonl").read_text().splitlines()]
    asked = [e for e in events if e["event"] == "completion" and e["role"] == "navigator"]
    answers = [text for e in asked for text in e["texts"]]
    prompts = [e["prompt"] for e in events if e["event"] == "prompt" and e["role"] == "generator"]
    assert prompts and all(any(prompt.startswith(answer) for answer in answers) for prompt in prompts)
    assert all(len(prompt) - max(len(a) for a in answers if prompt.startswith(a)) < 10 for prompt in prompts)


def test_killed_and_resumed(problem: tuple[Any, Any], whole: Path, tmp_path: Path) -> None:
    lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for n in range(3, len(lines), len(lines) // 5):
        run = tmp_path / str(n)
        run.mkdir()
        (run / "journal.jsonl").write_bytes(b"".join(lines[:n]) + lines[n][:9])
        search(*problem, out=run, resume=True, **SMALL)
        for key in ("history", "best", "counts", "tokens", "ended"):
            assert result(run)[key] == result(whole)[key]


def test_a_finished_run_loads_no_model(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir()}
    arguments = ["search", "--budget", "20", "--init", "5", "--seed", "1", "--out", str(whole), "--resume"]
    code = (
        f"import sys\nfrom collm_nas.cli import main\nassert main({arguments}) == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


def test_another_model_may_not_resume(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "model")
    arguments = ["search", "--budget", "20", "--init", "5", "--seed", "1", "--out", str(whole), "--resume"]
    assert main([*arguments, "--model", str(tmp_path / "model")]) == 2
    assert "--model: the run in" in capsys.readouterr().err


@pytest.mark.parametrize(("decoding", "illegal"), [("free", True), ("json", True), ("legal", False)])
def test_the_other_decoding_modes(problem: tuple[Any, Any], decoding: str, illegal: bool) -> None:
    result = search(*problem, decoding=decoding, **SMALL)
    counts = result["counts_by_proposer"]["model"]
    assert result.counts["evaluated"] == 20
    assert illegal or counts["attempted"] == counts["valid"]


def test_caps_hold(problem: tuple[Any, Any]) -> None:
    space, evaluator = problem
    half = sorted(space.cost(arch)["params"] for arch in space.all())[space.size // 4]
    result = search(space, evaluator, max_params=half, **SMALL)
    archs = [space.parse(row["arch"]) for row in result.history]
    assert len(archs) == 20 and all(space.cost(arch)["params"] <= half for arch in archs)


def test_ask_and_tell(problem: tuple[Any, Any], whole: Path) -> None:
    space, evaluator = problem
    loop = open_search(space, **SMALL)
    archs = loop.ask(5)
    while archs:
        values = [evaluator.evaluate([arch])[0].fitness for arch in archs]
        loop.tell(archs, values)
        archs = loop.ask(5)
    assert loop.result().history == result(whole)["history"]


def spoil_adapter(model: Path) -> None:
    shutil.rmtree(model / "navigator")


def spoil_manifest(model: Path) -> None:
    for path in model.rglob("manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "digest_version": 99}))


def spoil_tokenizer(model: Path) -> None:
    path = model / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace("<roam1>", "<room1>"))


def spoil_weights(model: Path) -> None:
    path = next((model / "base").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_adapter, "no navigator adapter"),
        (spoil_manifest, "digest version 99"),
        (spoil_tokenizer, "another tokenizer"),
        (spoil_weights, "can't be loaded as a model"),
    ],
)
def test_a_spoiled_model(spoil: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "model")
    spoil(tmp_path / "model")
    assert main(["search", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_doctor_finds_nothing_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out and "digits-cells" in out and "loads (compact encoding" in out


def test_the_model_reads_hints_and_advice(tmp_path: Path) -> None:
    line = "search --advisor gp --budget 15 --seed 0 --out"
    assert main([*line.split(), str(tmp_path / "run"), "--hint", "prefer conv3"]) == 0
    events = [json.loads(row) for row in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    asked = [e["prompt"] for e in events if e["event"] == "prompt" and e["role"] == "navigator"]
    assert asked and all("<hint>" in text and "<advice>" in text for text in asked)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["counts_by_proposer"]["model"]["evaluated"] == 5 and result["seen"] == "unseen"


def test_the_models_of_the_package_are_what_their_manifests_say() -> None:
    for folder in EMBEDDED.parent.iterdir():
        told = json.loads((folder / "manifest.json").read_text())
        for name, sha in told["weights"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha, f"{folder.name}/{name}"
        assert told["sources"] == {}
