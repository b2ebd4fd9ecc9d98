"""`collm-nas search` and its kin, end to end with a baseline; the embedded model has its own tests."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from random import Random

import pytest

from collm_nas.cli import main, summary
from tests.cli.runs import folder, lines, start, stop_after

__all__ = ["folder"]

TABLE = ["search", "--space", "space.yaml", "--table", "table.csv", "--fitness", "valid", "--report", "test"]
FUNCTION = ["search", "--space", "space.yaml", "--evaluator", "code_of_mine:score", "--budget", "100"]


def result(run: str) -> dict[str, object]:
    held: dict[str, object] = json.loads((Path(run) / "result.json").read_text())
    return held


def test_a_table_that_covers_a_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TABLE, "--optimizer", "random", "--out", "r"]) == 0
    held = result("r")
    assert held["best"] == {
        "arch": "d d a a",
        "fitness": 15.0,
        "report": {"test": 9},
        "costs": {"params": 115.0, "flops": 70.0},
    }
    assert held["ended"] == "exhausted" and held["seen"] == "n/a"
    out, err = capsys.readouterr()
    for shown in ("d d a a", "15 (valid)", "test 9", "flops 70", "16 evaluated", "budget 100", "r/report.html"):
        assert shown in out
    assert not err


def test_a_front_is_printed_and_replayed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The better the row of the table the dearer: all 16 are on the front."""
    two = ["--objective", "fitness", "--objective", "params"]
    assert main([*TABLE, *two, "--optimizer", "nsga2", "--out", "r"]) == 0
    front = result("r")["front"]
    assert [row["fitness"] for row in front] == [float(i) for i in range(15, -1, -1)]  # type: ignore[attr-defined]
    out = capsys.readouterr().out
    for shown in ("16 architectures: fitness, params", "15  115  d d a a", " 0  100  a a a a", "hypervolume"):
        assert shown in out
    assert main(["replay", "r"]) == 0
    assert result("r")["front"] == front and "16 architectures" in capsys.readouterr().out


def test_a_long_front_is_printed_as_an_even_selection() -> None:
    members = [{"arch": f"a{i}", "fitness": 99.0 - i, "costs": {"flops": 99.0 - i}} for i in range(50)]
    volume = {"value": 1.0, "reference": {"fitness": 0.0, "flops": 100.0}}
    data = {"front": members, "objectives": ["fitness", "flops"], "hypervolume": volume}
    told = [text for _, text in summary._front(data)]
    assert told[0] == "50 architectures: fitness, flops" and told[1].endswith("a0") and told[20].endswith("a49")
    assert len(told) == 23 and told[21] == "an even selection of 20; result.json has all of them"


def test_a_command_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.py").write_text(
        "import json, sys\n"
        "layers = json.load(open(sys.argv[1]))['choices']\n"
        "print('done:', json.dumps({'acc': 1}))\n"
        "print(json.dumps({'acc': sum('abcd'.index(c) for c in layers.values()), 'params': 7}))\n"
    )
    command = shlex.join([sys.executable, "train.py", "{arch.json}"])
    search = ["search", "--space", "space.yaml", "--optimizer", "random", "--budget", "4", "--fitness", "acc"]
    assert main([*search, "--evaluator-cmd", command, "--out", "r"]) == 0
    history = result("r")["history"]
    assert all(sum("abcd".index(c) for c in row["arch"].split()) == row["fitness"] for row in history)  # type: ignore[attr-defined]
    assert result("r")["best"]["costs"]["params"] == 7  # type: ignore[index]
    assert "train.py '{arch.json}' sha256" in " ".join(capsys.readouterr().out.split())
    for other in ("true", command + " "):
        assert main([*search, "--evaluator-cmd", other, "--out", "r", "--resume"]) == 2
        assert "--evaluator-cmd: the run in r was begun with" in capsys.readouterr().err


MOODY = """\
import json, subprocess, sys, time
l1, l2, *rest = (layers := json.load(open(sys.argv[1]))["choices"].values())
print("epoch 1")
if l1 == "a" and l2 in "ab":
    sys.exit("cuda error")
if l1 == "b":
    print(float("nan") if l2 == "a" else json.dumps({"fitness": sum(map(ord, layers))}) if l2 == "b" else "junk {")
elif (l1, l2) == ("c", "a"):
    subprocess.Popen(["sleep", "300"])
    time.sleep(300)
else:
    print(sum(map(ord, layers)))
"""


@pytest.mark.slow
def test_a_command_that_fails_now_and_then(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Exits 1, prints NaN or junk, hangs with a child; killed and resumed it ends like an unbroken run."""
    (folder / "moody.py").write_text(MOODY)
    scored = ["--evaluator-cmd", shlex.join([sys.executable, "moody.py", "{arch.json}"]), "--evaluator-timeout", "5"]
    search = ["search", "--space", "space.yaml", *scored, "--optimizer", "local-search", "--budget", "24"]
    assert main([*search, "--out", "whole"]) == 0
    whole = result("whole")
    out, told = capsys.readouterr().out, " ".join(caplog.messages)
    reasons = " ".join(row["reason"] for row in whole["failures"])  # type: ignore[attr-defined]
    for said in ("exit code 1: cuda error", "'nan' as fitness", "its last line is 'junk {'", "longer than 5 s"):
        assert said in reasons and said in told
    assert f"24 evaluated, {len(whole['failures'])} failed" in out  # type: ignore[arg-type]
    rng = Random(0)
    for _ in range(3):
        process = start([*search, "--out", "killed", "--resume"])
        stop_after(process, folder / "killed", 3 + int(rng.random() * 8), signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert main([*search, "--out", "killed", "--resume"]) == 0
    killed = result("killed")
    for key in ("history", "best", "counts", "ended"):
        assert killed[key] == whole[key]
    assert [row["reason"] for row in killed["failures"]] == [row["reason"] for row in whole["failures"]]  # type: ignore[attr-defined]
    held = (folder / "killed" / "result.json").read_bytes()
    assert main(["replay", "killed"]) == 0 and (folder / "killed" / "result.json").read_bytes() == held


def test_an_evaluator_that_breaks_and_is_mended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gone.py").write_text("def score(arch):\n    raise OSError('no space left on device')\n")
    search = ["search", "--space", "space.yaml", "--evaluator", "gone:score", "--optimizer", "random", "--out", "r"]
    assert main([*search, "--budget", "9", "--max-failures", "4"]) == 2
    [err] = capsys.readouterr().err.splitlines()
    assert "after 4 failures in a row, the last one: OSError: no space left on device" in err
    assert result("r")["ended"] == "failures" and result("r")["best"] is None
    assert main(["watch", "r"]) == 0
    out = capsys.readouterr().out
    assert "failed    4 evaluations, the last one: OSError" in out and "too many evaluations failed in a row" in out
    (folder / "gone.py").write_text("def score(arch):\n    return 1.0\n")
    process = start([*search, "--budget", "9", "--resume", "--retry-failed"])
    out, told = process.communicate(timeout=60)
    assert "9 evaluated, 4 failed" in out, told
    tried = [row["arch"] for row in result("r")["failures"]]  # type: ignore[attr-defined]
    assert set(tried) < {row["arch"] for row in result("r")["history"]}  # type: ignore[attr-defined]


def test_the_first_free_folder_is_taken(folder: Path) -> None:
    (folder / "run-1").mkdir()
    assert main([*TABLE, "--optimizer", "random", "--budget", "3"]) == 0
    assert (folder / "run-2" / "result.json").exists()
    assert len(result("run-2")["history"]) == 3, "a budget below the default --init is all init"  # type: ignore[arg-type]


def test_start_from_a_file(folder: Path) -> None:
    (folder / "starts.txt").write_text("# good ones\n\nd d a a\n a b a a \n")
    assert main([*TABLE, "--optimizer", "random", "--budget", "3", "--start-from", "starts.txt", "--out", "r"]) == 0
    history = result("r")["history"]
    assert [row["arch"] for row in history[:2]] == ["d d a a", "a b a a"]  # type: ignore[index]


def test_an_earlier_run_is_reused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = [*TABLE, "--optimizer", "random", "--budget", "6"]
    assert main([*search, "--out", "a"]) == 0
    capsys.readouterr()
    assert main([*search, "--seed", "1", "--reuse", "a", "--out", "b"]) == 0
    out = capsys.readouterr().out
    assert "6 evaluations of a" in out and "6 evaluated" in out
    first, second = (result(run)["history"] for run in "ab")
    assert len({row["arch"] for row in [*first, *second]}) == 12  # type: ignore[misc]
    assert main(["replay", "b"]) == 0


def test_a_family_of_caps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = [*TABLE, "--optimizer", "local-search", "--budget", "4", "--max-flops", "70,30", "--out", "f"]
    assert main(search) == 0
    out = capsys.readouterr().out
    for shown in ("evaluated", "read once", "found under", "max-flops-30", "reports f/*/report.html"):
        assert shown in out
    held = json.loads((folder / "f" / "family.json").read_text())
    assert [member["run"] for member in held["members"]] == ["max-flops-30", "max-flops-70"]
    assert all(member["best"]["costs"]["flops"] <= member["cap"] for member in held["members"])
    assert main([*search, "--resume"]) == 0
    assert json.loads((folder / "f" / "family.json").read_text()) == held
    assert main(["report", "f/max-flops-30"]) == main(["replay", "f/max-flops-70"]) == 0


def test_a_family_is_resumed_by_what_is_printed(folder: Path) -> None:
    search = [*FUNCTION[:-1], "12", "--optimizer", "local-search", "--max-flops", "30,50", "--out", "f"]
    process = start(search, slow=0.05)
    stop_after(process, folder / "f" / "max-flops-50", 8, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "max-flops-30 (1 of 2): best so far" in err, err
    again = err.strip().splitlines()[-1].partition("go on with: collm-nas ")[2]
    assert main(shlex.split(again)) == 0
    assert main([*search[:-1], "whole"]) == 0
    for run in ("max-flops-30", "max-flops-50"):
        assert result(f"f/{run}")["history"] == result(f"whole/{run}")["history"]


def test_the_standard_error_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "noisy.py").write_text("def score(arch):\n    return {'fitness': 1.5, 'error': 0.123}\n")
    search = ["search", "--space", "space.yaml", "--evaluator", "noisy:score", "--optimizer", "random", "--budget", "2"]
    assert main([*search, "--out", "r"]) == 0
    assert "1.5 ± 0.12" in capsys.readouterr().out and result("r")["best"]["error"] == 0.123  # type: ignore[index]


def test_report_and_replay_need_the_journal_alone(folder: Path) -> None:
    assert main([*TABLE, "--optimizer", "random", "--out", "r"]) == 0
    held = {name: (folder / "r" / name).read_bytes() for name in ("result.json", "report.html")}
    for name in (*held, "../table.csv", "../space.yaml"):
        (folder / "r" / name).unlink()
    assert main(["replay", "r"]) == 0
    assert {name: (folder / "r" / name).read_bytes() for name in held} == held
    assert main(["report", "r", "--out", "page.html"]) == 0
    assert (folder / "page.html").read_bytes() == held["report.html"]


def test_ctrl_c_is_resumable(folder: Path) -> None:
    search = [*FUNCTION, "--optimizer", "local-search"]
    process = start(search, slow=0.02)
    stop_after(process, folder / "run-1", 25, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert result("run-1")["ended"] == "interrupted"
    again = err.strip().splitlines()[-1].partition("go on with: collm-nas ")[2]
    assert main(shlex.split(again)) == 0
    assert main([*search, "--out", "unbroken"]) == 0
    assert result("run-1")["history"] == result("unbroken")["history"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["random", "local-search"])
def test_killed_again_and_again(folder: Path, optimizer: str) -> None:
    search = [*FUNCTION, "--optimizer", optimizer]
    rng, run = Random(optimizer), folder / "killed"
    kills = 0
    while kills < 12:
        process = start([*search, "--out", "killed", "--resume"], slow=0.003)
        stop_after(process, run, int(rng.random() * 15), signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed often enough"
        kills += 1
    assert 0 < lines(run) < 202
    assert main([*search, "--out", "killed", "--resume"]) == 0
    assert main([*search, "--out", "unbroken"]) == 0
    for key in ("history", "best", "counts", "counts_by_proposer", "ended"):
        assert result("killed")[key] == result("unbroken")[key]


def test_two_processes_on_one_run(folder: Path) -> None:
    search = [*FUNCTION, "--optimizer", "random", "--out", "r"]
    first = start(search, slow=0.05)
    stop_after(first, folder / "r", 3, signal.SIGCONT)
    second = start([*search, "--resume"])
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2 and "is in use by another process" in err
    first.kill()
    first.communicate(timeout=60)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    from collm_nas.cli import COMMANDS

    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("collm-nas ")
