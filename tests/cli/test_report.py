"""`collm-nas report`, `replay` and `doctor` on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collm_nas import spaces
from collm_nas.cli import doctor, main
from tests.unit.eval import made


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the journals of runs `a` and `b`."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        events = made.journal(spaces.load("digits-cells"), 20, models=name == "a", seed=seed)
        (tmp_path / name / "journal.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return tmp_path


def test_replay_gives_the_same_bytes_in_another_process(runs: Path) -> None:
    """A run of two language models: strategies, map and network come from the journal alone, in no order of hashing."""
    assert main(["replay", "a"]) == 0
    held = {name: (runs / "a" / name).read_bytes() for name in ("result.json", "report.html")}
    assert b"Favoured choices over time" in held["report.html"] and b"Round 3" in held["report.html"]
    for name in held:
        (runs / "a" / name).unlink()
    command = [sys.executable, "-m", "collm_nas", "replay", "a"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert {name: (runs / "a" / name).read_bytes() for name in held} == held


def test_several_runs_are_one_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a", "b"]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    page = (runs / "comparison.html").read_text()
    assert "Comparison of 2 runs" in page and "collm" in page
    assert main(["report", "a", "b", "--out", "else.html"]) == 0
    assert (runs / "else.html").read_text() == page
    assert not (runs / "a" / "report.html").exists()
    assert main(["report", "a", "a/", "--out", "one.html"]) == 0, "the same run twice is one run"
    assert "Comparison" not in (runs / "one.html").read_text()


def test_a_run_among_several_that_is_none(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a", "c"]) == 2
    assert "c holds no journal.jsonl" in capsys.readouterr().err
    assert not (runs / "comparison.html").exists()


@pytest.mark.parametrize(("mend", "status"), [("", 0), ("pip install it", 2)])
def test_doctor_for_scripts(
    mend: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [doctor.Line("python", "3.11"), doctor.Line("torch", "found", mend)]
    monkeypatch.setattr(doctor, "findings", lambda model, supernet: iter(lines))
    assert main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out) == [
        {"ok": True, "name": "python", "found": "3.11", "mend": ""},
        {"ok": not mend, "name": "torch", "found": "found", "mend": mend},
    ]
