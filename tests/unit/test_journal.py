from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from collm_nas.api import Request, UserError
from collm_nas.journal import Journal, JournaledEngine, read
from tests.unit.runs import ScriptedModel

HEADER = {"event": "header", "seed": 0, "budget": 3}
CANDIDATE = {"event": "candidate", "arch": "é 0", "room": 2}
REQUEST = Request("navigator", "what next?", 2, 7, 1.0, 9)


def written(path: Path, *events: dict[str, object]) -> Path:
    journal = Journal(path)
    for event in events:
        journal.record(event)
    journal.close()
    return path


def test_nothing_exists_before_the_first_event(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "run" / "journal.jsonl")
    assert not (tmp_path / "deep").exists()
    journal.record(HEADER)
    assert read(tmp_path / "deep" / "run" / "journal.jsonl")[0][0]["budget"] == 3
    journal.close()


def test_a_line_an_event_and_time_grows(tmp_path: Path) -> None:
    path = written(tmp_path / "j", HEADER, CANDIDATE, CANDIDATE)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [e["event"] for e in events] == ["header", "candidate", "candidate"]
    assert events[1]["arch"] == "é 0"
    assert 0 <= events[0]["time"] <= events[1]["time"] <= events[2]["time"]


def test_replay_compares_and_writes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "j", HEADER, CANDIDATE)
    before = path.read_bytes()
    journal = Journal(path)
    assert journal.replaying
    journal.record({**HEADER, "versions": {"python": "4"}})
    assert journal.recorded("candidate") is not None
    journal.record(CANDIDATE)
    assert not journal.replaying and path.read_bytes() == before
    journal.record(CANDIDATE)
    assert path.read_bytes().startswith(before) and len(journal.events) == 3
    journal.close()


def test_a_difference_names_the_line(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j", HEADER, CANDIDATE))
    journal.record(HEADER)
    with pytest.raises(UserError, match=r"differs at line 2: its 'candidate' has room 2, this search 5"):
        journal.record({**CANDIDATE, "room": 5})
    with pytest.raises(UserError, match=r"line 2: it holds 'candidate' where this search comes to 'evaluation'"):
        journal.recorded("evaluation")
    journal.close()


@pytest.mark.parametrize("torn", [b'{"event": "cand', b"\0\0\0", b'{"event": "candidate"', b"garbage\n"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "j", HEADER, CANDIDATE)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert read(path) == (read(written(tmp_path / "k", HEADER, CANDIDATE))[0], torn) or read(path)[1] == torn
    assert path.read_bytes() == whole + torn, "reading alone must not write"
    journal = Journal(path)
    assert journal.torn and len(journal.events) == 2 and path.read_bytes() == whole
    assert "its last line is torn" in caplog.text
    journal.close()


def test_a_missing_line_end_is_added(tmp_path: Path) -> None:
    path = written(tmp_path / "j", HEADER, CANDIDATE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    journal = Journal(path)
    assert not journal.torn and len(journal.events) == 2 and path.read_bytes() == whole
    journal.close()


@pytest.mark.parametrize("line", [b"", b"[1]", b'{"event": "party"}', b"\xff\xfe", b'{"event": '])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "j", HEADER, CANDIDATE, CANDIDATE)
    lines = path.read_bytes().splitlines()
    lines[1] = line
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match="damaged at line 2"):
        Journal(path)
    assert path.read_bytes() == before


def test_the_header_comes_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: a journal begins with its header"):
        Journal(written(tmp_path / "j", CANDIDATE))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path / "j", HEADER)
    journal = Journal(path)
    code = f"from pathlib import Path; from collm_nas.journal import Journal; Journal(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "is in use by another process" in done.stderr
    journal.close()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_time_adds_up_over_sessions(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"event": "header", "seed": 0, "time": 1000.5}\n')
    journal = Journal(path, began=0.0)
    journal.record({"event": "header", "seed": 0})
    journal.record(CANDIDATE)
    assert 1000.5 <= journal.events[-1]["time"] < 1010
    journal.close()


def test_no_nan_gets_in() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal().record({"event": "evaluation", "fitness": float("nan")})


def test_answers_are_recorded_and_taken_back(tmp_path: Path) -> None:
    model = ScriptedModel()
    journal = Journal(tmp_path / "j")
    journal.record(HEADER)
    answers = JournaledEngine(model, journal).generate(REQUEST)
    journal.close()
    assert [e["event"] for e in read(tmp_path / "j")[0]] == ["header", "prompt", "completion"]

    def load() -> ScriptedModel:
        raise AssertionError("the model was loaded though its answer is in the journal")

    journal = Journal(tmp_path / "j")
    journal.record(HEADER)
    engine = JournaledEngine(load, journal, described=model.describe())
    assert engine.generate(REQUEST) == answers and engine.describe() == model.describe()
    with pytest.raises(AssertionError, match="was loaded"):
        engine.generate(REQUEST)
    journal.close()


def test_a_changed_model_is_refused_when_it_is_needed() -> None:
    engine = JournaledEngine(ScriptedModel, Journal(), described={**ScriptedModel().describe(), "sources": {}})
    with pytest.raises(UserError, match=r"the model has changed since the run began .sources"):
        engine.generate(REQUEST)


def test_a_prompt_without_answer_is_answered(tmp_path: Path) -> None:
    """Killed while the model worked: the prompt is the last line."""
    model = ScriptedModel()
    journal = Journal(tmp_path / "j")
    journal.record(HEADER)
    JournaledEngine(model, journal).generate(REQUEST)
    journal.close()
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[:2]))
    journal = Journal(tmp_path / "j")
    journal.record(HEADER)
    JournaledEngine(lambda: model, journal).generate(REQUEST)
    journal.close()
    assert model.calls == 2
    assert json.loads((tmp_path / "j").read_bytes().splitlines()[2])["texts"] == json.loads(lines[2])["texts"]
