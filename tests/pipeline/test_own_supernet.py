"""The example of a supernet of one's own does what it says: trained, searched, exported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "collm_nas", *arguments], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_supernet(repository: Path, tmp_path: Path) -> None:
    example = repository / "examples" / "own_supernet.py"
    text = example.read_text(encoding="utf-8")
    assert sum(bool(line.strip()) for line in text.splitlines()) < 40
    shutil.copy(example, tmp_path)
    train, search = (line.split()[1:] for line in text.splitlines() if line.startswith("collm-nas "))
    trained = run(tmp_path, *train)
    largest = float(trained.splitlines()[0].split()[1])
    assert largest > 70, "ten classes: it has learnt something"
    run(tmp_path, *search, "--optimizer", "local-search", "--budget", "20", "--out", "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["counts"]["evaluated"] == 20
    assert result["best"]["fitness"] > 70
    assert result["best"]["error"] == pytest.approx(1, abs=0.5)
    run(tmp_path, "export", "run", "--no-onnx")
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()
    own = ("--supernet", "own_supernet:Supernet", "--data", "digits")
    assert "valid" in run(tmp_path, "supernet", "evaluate", "8 8 8", *own)


def test_what_is_no_supernet_is_said(repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "examples" / "own_supernet.py", tmp_path)
    for name, said in (("own_supernet:Nothing", "has no 'Nothing'"), ("nowhere:Supernet", "no module 'nowhere'")):
        done = subprocess.run(
            [sys.executable, "-m", "collm_nas", "search", "--supernet", name, "--data", "digits"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
