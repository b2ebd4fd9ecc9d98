"""`collm-nas watch`: a running search followed by its journal, whatever state that is in."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from collm_nas import spaces
from collm_nas.cli import main, watch
from tests.unit.eval import made


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of a whole run; the current directory has the folder `r` for them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").mkdir()
    return made.journal(spaces.load("digits-cells"), 20)


def write(events: list[dict[str, Any]], torn: str = "") -> None:
    Path("r/journal.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + torn)


def best(events: list[dict[str, Any]]) -> dict[str, Any]:
    return max((e for e in events if e["event"] == "evaluation"), key=lambda e: float(e["fitness"]))


def test_once(events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    write(events[:-5], torn='{"event": "evaluation", "fitness": 9')
    assert main(["watch", "r", "--once"]) == 0
    out, err = capsys.readouterr()
    found = best(events[:-5])
    assert f"{found['fitness']:.6g} (query {found['query']}): {found['arch']}" in out
    known = sum(e["event"] == "evaluation" for e in events[:-5])
    assert f"{known} of 20  ▁" in out and "█" in out
    assert "the best one found is nearly right, so change little. stem: " in out
    assert "state     running" in out and not err


def test_a_run_that_has_ended(events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    write(events)
    assert main(["watch", "r"]) == 0
    assert "state     the budget is used up" in capsys.readouterr().out


@pytest.mark.parametrize("shown", ["lines", "in place"])
def test_it_ends_when_the_run_ends(
    shown: str, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shown == "in place":
        monkeypatch.setattr(watch, "_in_lines", watch._on_terminal)
    monkeypatch.setattr(watch, "EVERY", 0.01)
    monkeypatch.setattr(watch, "LINES_EVERY", 0.0)
    write(events[:12])

    def search() -> None:
        with Path("r/journal.jsonl").open("a") as file:
            for event in events[12:]:
                line = json.dumps(event) + "\n"
                for part in (line[:20], line[20:]):  # a line may be seen half written
                    file.write(part)
                    file.flush()
                    time.sleep(0.005)

    writer = threading.Thread(target=search)
    writer.start()
    assert main(["watch", "r"]) == 0
    writer.join()
    out = capsys.readouterr().out
    assert "20 of 20  " in out and "the budget is used up" in out
    assert ("of 20 evaluations, best so far" in out) == (shown == "lines")


def test_a_run_that_is_asked_from_outside_is_followed_though_nobody_holds_it(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.01)
    monkeypatch.setattr(watch, "QUIET", 0.0)
    write([events[0], {"event": "ask", "room": 1, "lines": 0}, *events[1:-1]])
    watched = threading.Thread(target=main, args=(["watch", "r"],))
    watched.start()
    watched.join(0.3)
    assert watched.is_alive()
    with Path("r/journal.jsonl").open("a") as file:
        file.write(json.dumps(events[-1]) + "\n")
    watched.join()
    assert "state     the budget is used up" in capsys.readouterr().out


def test_a_run_that_nobody_writes_any_more_is_interrupted(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.01)
    monkeypatch.setattr(watch, "QUIET", 0.0)
    write(events[:-1])
    assert main(["watch", "r"]) == 0
    assert "state     interrupted" in capsys.readouterr().out


def test_ctrl_c(events: list[dict[str, Any]]) -> None:
    write(events[:-1])
    with Path("r/journal.jsonl").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as a search that is still at it
        process = subprocess.Popen(
            [sys.executable, "-m", "collm_nas", "watch", "r"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "of 20 evaluations" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"collm-nas: interrupted; {watch.INTERRUPTED}\n"


def test_a_missing_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["watch", str(tmp_path / "nowhere")]) == 2
    assert "holds no journal.jsonl; name the folder of a run" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_not_printed(
    events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    told = next(e for e in events if e.get("role") == "navigator")
    write([events[0], told | {"texts": ["\x1b[2Jgone"]}])
    assert main(["watch", "r", "--once"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[2Jgone" in out and "none within the caps so far" in out
