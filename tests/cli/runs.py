"""The shell's view of a small search: a YAML space of 256 points, a table of a part of it, a slow evaluator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SPACE = """\
name: small
description: four layers
variables:
  - {name: l1, choices: [a, b, c, d]}
  - {name: l2, choices: [a, b, c, d]}
  - {name: l3, choices: [a, b, c, d]}
  - {name: l4, choices: [a, b, c, d]}
costs: {flops: {base: 10, l1: [0, 20, 40, 60]}}
"""
EVALUATOR = """\
import os, time

def score(arch):
    time.sleep(float(os.environ.get("SLOW", "0")))
    return sum((i + 1) * c for i, c in enumerate(arch.choices)) + 0.01 * arch.choices[0]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with `space.yaml`, `table.csv`, `code_of_mine.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "code_of_mine.py").write_text(EVALUATOR)
    rows = [
        f"{x} {y} a a,{i},{i * 7 % 16},{100 + i}" for i, (x, y) in enumerate((x, y) for x in "abcd" for y in "abcd")
    ]
    (tmp_path / "table.csv").write_text("\n".join(["arch,valid,test,params", *rows]) + "\n")
    return tmp_path


def start(arguments: Sequence[str], slow: float = 0.0) -> subprocess.Popen[str]:
    """`collm-nas` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "collm_nas", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLOW": str(slow)},
    )


def lines(run: Path) -> int:
    """Number of whole lines in the journal."""
    path = run / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stop_after(process: subprocess.Popen[str], run: Path, more: int, number: signal.Signals) -> None:
    """Send the signal as soon as the journal has `more` new lines (or the process has ended)."""
    until, deadline = lines(run) + more, time.monotonic() + 60
    while process.poll() is None and lines(run) < until:
        assert time.monotonic() < deadline, "the journal does not grow"
        time.sleep(0.002)
    process.send_signal(number)
