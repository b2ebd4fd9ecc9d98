"""`collm-nas ask` and `tell`: by hand, in scripts, from several processes at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from collm_nas import reopen, rundir, spaces
from collm_nas.cli import main
from collm_nas.journal import Journal
from tests.cli.runs import folder, start

__all__ = ["folder"]

Capture = pytest.CaptureFixture[str]
A = "ask r --space space.yaml --optimizer gp --budget 12 --init 4"


def ask(line: str, capsys: Capture) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(line.split()) == 0
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def value(arch: str) -> float:
    return sum((i + 1) * "abcd".index(c) for i, c in enumerate(arch.split()))


def tell(capsys: Capture, *lines: object, status: int = 0) -> str:
    """What it says, on stdout or, where it refuses, on stderr."""
    Path("results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["tell", "r", "results.jsonl"]) == status
    return "".join(capsys.readouterr())


def told(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"arch": line["arch"], "fitness": value(line["arch"])} for line in asked]


def test_by_hand(folder: Path, capsys: Capture) -> None:
    first = ask(f"{A} -n 4", capsys)
    space = spaces.load("space.yaml")
    for number, line in enumerate(first, start=1):
        arch = space.parse(line["arch"])
        assert line["run"] == "r" and line["number"] == number and line["compact"] == space.format(arch, "compact")
        assert line["choices"] == dict(zip(("l1", "l2", "l3", "l4"), line["arch"].split(), strict=True))
    more = ask("ask r -n 2", capsys)
    assert ask(f"{A} --pending", capsys) == ask("ask r --pending", capsys) == first + more
    assert [line["number"] for line in more] == [5, 6]
    said = tell(capsys, *told([more[1], first[2]]))
    assert said.startswith("told 2; 4 are out, 2 of 12 evaluated, best ")
    assert tell(capsys, *told([more[1], first[0]])).startswith("told 1, 1 known already; 3 are out, 3 of 12")
    assert "told before with fitness" in tell(capsys, {"arch": first[2]["arch"], "fitness": -5.0}, status=2)
    assert [line["number"] for line in ask("ask r --pending", capsys)] == [2, 4, 5]
    assert main(["ask", "r", "--forget", first[1]["arch"]]) == 0
    assert "gave up on 1; 2 are out" in capsys.readouterr().err
    assert len({line["arch"] for line in [*first, *more, *ask("ask r -n 20", capsys)]}) == 6 + 12 - 3 - 2
    tell(capsys, *told(ask("ask r --pending", capsys)))
    assert ask("ask r", capsys) == [] and json.loads(Path("r/result.json").read_text())["ended"] == "budget"
    assert len(ask("ask r --budget 14 -n 5", capsys)) == 2, "a larger budget extends it"


def test_an_empty_answer_says_why(folder: Path, capsys: Capture) -> None:
    ask("ask r --space space.yaml --optimizer random --budget 2", capsys)
    assert main(["ask", "r"]) == 0
    assert "nothing to ask for: 2 are out, and with them the budget is used up" in capsys.readouterr().err
    assert main(["ask", "r", "--forget", "all"]) == 0
    tell(capsys, *told(ask("ask r -n 2", capsys)))
    assert main(["ask", "r"]) == 0
    assert "nothing to ask for: the budget is used up" in capsys.readouterr().err


def test_costs_and_standard_errors_are_kept(folder: Path, capsys: Capture) -> None:
    [line] = ask("ask r --space space.yaml --optimizer random --budget 3 --max-flops 40 -n 1", capsys)
    result = {**line, "fitness": 2.0, "costs": {"latency": 3.5, "flops": 1}, "error": 0.25, "seconds": 60}
    tell(capsys, result)
    assert tell(capsys, result).startswith("told 0, 1 known already")
    best = json.loads(Path("r/result.json").read_text())["best"]
    assert best["costs"] == {
        "latency": 3.5,
        "flops": spaces.load("space.yaml").cost(spaces.load("space.yaml").parse(line["arch"]))["flops"],
    }
    assert best["error"] == 0.25
    assert tell(capsys, {"arch": line["arch"], "fitness": 2.0}).startswith("told 0, 1 known already")
    assert "told before" in tell(capsys, {**result, "costs": {"latency": 3.6}}, status=2)


def test_what_failed_is_told_too(folder: Path, capsys: Capture) -> None:
    first, second, *_ = ask(f"{A} -n 4", capsys)
    failed = {"arch": first["arch"], "error": "out of memory"}
    assert tell(capsys, failed, *told([second])).startswith("told 2; 2 are out, 1 of 12 evaluated")
    assert tell(capsys, failed).startswith("told 0, 1 known already")
    assert "was told before as failed, and here with fitness 1" in tell(
        capsys, {"arch": first["arch"], "fitness": 1.0}, status=2
    )
    assert first["arch"] not in {line["arch"] for line in ask("ask r -n 20", capsys)}
    result = json.loads(Path("r/result.json").read_text())
    assert result["counts"]["failed"] == 1 and result["counts"]["evaluated"] == 1


def test_from_stdin(folder: Path) -> None:
    command = [sys.executable, "-m", "collm_nas"]
    asked = subprocess.run(
        [*command, *A.split(), "-n", "1"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    result = json.dumps({"arch": json.loads(asked)["arch"], "fitness": 3})
    done = subprocess.run([*command, "tell", "r", "-"], input=result, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("told 1; 0 are out, 1 of 12 evaluated, best 3: ") and not done.stderr


BAD = [
    ("not json", "line 2: must be a JSON object"),
    ([1], "line 2: must be a JSON object"),
    ({"fitness": 1}, "line 2: it needs the key 'arch'"),
    ({"arch": "a a a a"}, "line 2: it needs the key 'fitness'"),
    ({"arch": "a a a"}, "line 2: small:"),
    ({"arch": "a a a a", "fitnes": 1}, "line 2: unknown key 'fitnes'; legal: arch, fitness, costs, error, seconds"),
    ({"arch": "FIRST", "fitness": float("nan")}, "line 2: fitness must be a finite number, but is nan"),
    ({"arch": "FIRST", "fitness": "1"}, "line 2: fitness must be a finite number, but is '1'"),
    ({"arch": "FIRST", "fitness": True}, "line 2: fitness must be"),
    ({"arch": "FIRST", "fitness": 1, "costs": [1]}, "line 2: 'costs' must be an object"),
    ({"arch": "FIRST", "fitness": 1, "costs": {"latency": -1}}, "line 2: cost 'latency' must be a finite number of at"),
    ({"arch": "FIRST", "fitness": 1, "error": -1}, "line 2: error must be a finite number of at least 0"),
    ({"arch": "GOOD", "error": "out of memory"}, "told before with fitness 1, and here as failed"),
    ({"arch": "FIRST"}, "line 2: it needs the key 'fitness', a number, or 'error', the text of what failed"),
    ({"arch": "OTHER", "fitness": 1}, "was not asked for in this run"),
    ({"arch": "GOOD", "fitness": 7}, "told before with fitness 1, and here with fitness 7"),
]


@pytest.mark.parametrize(("line", "sentence"), BAD)
def test_a_bad_line_is_named_and_nothing_recorded(line: Any, sentence: str, folder: Path, capsys: Capture) -> None:
    archs = [one["arch"] for one in ask(f"{A} -n 3", capsys)]
    space = spaces.load("space.yaml")
    other = next(text for arch in space.all() if (text := space.format(arch)) not in archs)
    named = {"FIRST": archs[0], "GOOD": archs[1], "OTHER": other}
    if isinstance(line, dict) and line.get("arch") in named:
        line = {**line, "arch": named[line["arch"]]}
    text = line if isinstance(line, str) else json.dumps(line)
    good = json.dumps({"arch": archs[1], "fitness": 1})
    Path("results.jsonl").write_text(f"{good}\n{text}\n{json.dumps({'arch': archs[2], 'fitness': 2})}\n")
    held = Path("r/journal.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["tell", "r", "results.jsonl"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and sentence in err and "nothing was recorded" in err
    assert Path("r/journal.jsonl").read_bytes() == held


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ask s", "s is no run yet; begin it with --space S"),
        ("ask notes --space space.yaml", "holds 'mine.txt' but no journal.jsonl"),
        ("ask r -n 0", "-n must be a whole number of at least 1, but is 0"),
        ("ask r --pending -n 2", "-n asks for more, which --pending does not"),
        ("ask r --forget 'a", "variable 'l1'"),
        ("ask r --seed 3", "--seed: the run in r was begun with 0, not 3"),
        ("ask r --optimizer random", "--optimizer: the run in r was begun with gp, not random"),
        ("ask r --space digits-cells", "--space: the run in r was begun with 'small'"),
        ("ask r --budget 5", "--budget 5 is below the 12"),
        ("ask r --max-flops 20,30", "--max-flops takes one number here"),
        ("ask r --wait soon", "argument --wait: 'soon' is no number"),
        ("ask r --wait nan", "argument --wait: 'nan' is no number of seconds"),
        ("ask t", "t evaluates by itself (table.csv); it goes on by `collm-nas search --out t --resume`"),
        ("tell t results.jsonl", "t evaluates by itself"),
        ("tell notes results.jsonl", "holds no journal.jsonl"),
        ("tell r nowhere.jsonl", "cannot read nowhere.jsonl: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(line: str, sentence: str, folder: Path, capsys: Capture) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("keep me")
    (folder / "results.jsonl").write_text("")
    ask(f"{A} -n 1", capsys)
    search = "search --space space.yaml --table table.csv --fitness valid --optimizer random --budget 3 --out t"
    assert main(search.split()) == 0
    held = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    try:
        status = main(line.split())
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status == 2 and not out and err.count("\n") == 1 and sentence in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == held


def test_while_another_process_has_the_run(folder: Path, capsys: Capture) -> None:
    ask(f"{A} -n 1", capsys)
    held = Journal(Path("r/journal.jsonl"))
    assert main(["ask", "r", "--wait", "0.1"]) == 2
    assert "journal.jsonl is in use by another process and was for 0.1 seconds" in capsys.readouterr().err
    waiting = start(["ask", "r", "-n", "1"])
    held.close()
    out, err = waiting.communicate(timeout=60)
    assert json.loads(out)["number"] == 2 and not err


def test_a_run_that_another_process_begins_meanwhile_is_gone_on_with(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found empty, and then refused as not empty, by workers that began one run together."""
    prepare = reopen.prepare

    def late(*given: Any) -> Any:
        monkeypatch.setattr(reopen, "prepare", prepare)
        out, err = start([*A.split(), "-n", "1"]).communicate(timeout=120)
        assert json.loads(out)["number"] == 1 and not err
        return prepare(*given)

    monkeypatch.setattr(reopen, "prepare", late)
    assert [line["number"] for line in ask(f"{A} -n 1", capsys)] == [2]


def test_several_processes_at_once(folder: Path) -> None:
    """Four workers begin one run together, ask, evaluate and tell: nobody gets what another has, nothing is lost."""

    def worker(_: int) -> list[str]:
        archs = []
        for _ in range(2):
            out, err = start([*A.replace("12", "8").split(), "-n", "1"]).communicate(timeout=120)
            assert not err, err
            archs.append(json.loads(out)["arch"])
            Path(f"{archs[-1]}.jsonl").write_text(json.dumps({"arch": archs[-1], "fitness": value(archs[-1])}))
            out, err = start(["tell", "r", f"{archs[-1]}.jsonl"]).communicate(timeout=120)
            assert out.startswith("told 1; ") and not err, err
        return archs

    with ThreadPoolExecutor(4) as pool:
        asked = [arch for archs in pool.map(worker, range(4)) for arch in archs]
    assert len(asked) == len(set(asked)) == 8
    result = json.loads((folder / "r" / "result.json").read_text())
    assert result["ended"] == "budget" and result["pending"] == []
    assert {row["arch"]: row["fitness"] for row in result["history"]} == {arch: value(arch) for arch in asked}


def test_the_other_commands_cope(folder: Path, capsys: Capture) -> None:
    asked = ask(f"{A} -n 4", capsys)
    lines = {**asked[0], "fitness": 1.5}, {**asked[1], "fitness": 2.5}
    tell(capsys, *lines)
    assert main(["watch", "r", "--once"]) == 0
    assert "state     open, 2 out" in capsys.readouterr().out
    page = Path("r/report.html").read_text()
    assert "It is open" in page and page.count("Out, and not yet told") == 2 and asked[2]["arch"] in page
    held = {path.name: path.read_bytes() for path in Path("r").iterdir()}
    assert main(["replay", "r"]) == 0
    assert "2 asked for, and not yet told" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in Path("r").iterdir()} == held
    assert main(["report", "r"]) == 0
    assert rundir.load(Path("r"))[0]["pending"] == [line["arch"] for line in asked[2:]]


def test_the_embedded_model_is_needed_to_ask_alone(folder: Path, capsys: Capture) -> None:
    """To tell, no library of language models is loaded, nor are the model's files read."""
    asked = ask("ask r --space space.yaml --budget 6 --init 0 -n 2", capsys)
    Path("results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told(asked)))
    code = (
        "import sys; from collm_nas.cli import main; assert main(['tell', 'r', 'results.jsonl']) == 0\n"
        "assert not {'torch', 'transformers', 'peft', 'inference'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    more = ask("ask r -n 2", capsys)
    assert len({line["arch"] for line in asked + more}) == 4
    assert ask("ask r --pending", capsys) == more
    counts = json.loads(Path("r/result.json").read_text())["counts_by_proposer"]["model"]
    assert counts["attempted"] == counts["unique"] == counts["evaluated"] == 2


SBATCH = """\
#!{python}
# Runs the tasks of `sbatch --array=FIRST-LAST%MOST SCRIPT ARGUMENTS...` here, MOST at once, each as SLURM does.
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

array, script, *arguments = sys.argv[1:]
span, _, most = array.removeprefix("--array=").partition("%")
first, last = map(int, span.split("-"))

def task(number):
    env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(number), "SLURM_SUBMIT_DIR": os.getcwd()}}
    return subprocess.run(["bash", script, *arguments], env=env).returncode

with ThreadPoolExecutor(int(most)) as pool:
    sys.exit(max(pool.map(task, range(first, last + 1))))
"""


def test_the_slurm_example(repository: Path, tmp_path: Path) -> None:
    """An array of more tasks than the budget has room for, by a stand-in for `sbatch`."""
    for path in (repository / "examples" / "slurm").iterdir():
        shutil.copy(path, tmp_path)
    script = tmp_path / "search.sbatch"
    script.write_text(script.read_text().replace("--budget 40", "--budget 6 --init 3 --optimizer gp"))
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {
        "sbatch": SBATCH.format(python=sys.executable),
        "collm-nas": f'#!/bin/sh\nexec {sys.executable} -m collm_nas "$@"\n',
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    }.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    done = subprocess.run(
        ["sbatch", "--array=1-7%3", "search.sbatch", "run"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to ask for" in done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["ended"] == "budget" and result["pending"] == [] and result["counts"]["evaluated"] == 6
    assert result["best"]["fitness"] > 50, "ten classes: it has learnt something"
