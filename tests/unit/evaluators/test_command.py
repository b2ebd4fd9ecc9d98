"""Commands as evaluators: real processes, good ones and bad ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collm_nas import spaces
from collm_nas.api import Architecture, EvaluationError, UserError, Variable
from collm_nas.evaluators import command
from collm_nas.spaces.base import CategoricalSpace
from tests.unit.runs import SPACE

ARCH = SPACE.parse("2 1 3")
DEEP = CategoricalSpace(
    "deep",
    [
        Variable("depth", ("1", "2")),
        Variable("kernel", ("3", "5")),
        Variable("op", ("a b", "1")),
        Variable("wide", ("1.5", "2"), ((0, frozenset({1})),)),
    ],
)


def shell(program: str, space: Any = SPACE, **options: Any) -> command.CommandEvaluator:
    return command.create(space, f"sh -c '{program}' sh {{arch.json}} {{arch}}", **options)


def one(evaluator: Any, arch: Architecture = ARCH) -> Any:
    return evaluator.evaluate([arch])[0]


def reason(evaluator: Any) -> tuple[str, bool]:
    with pytest.raises(EvaluationError) as error:
        one(evaluator)
    return str(error.value), error.value.everywhere


# --- what it is told --------------------------------------------------------------------------------------------------


def test_the_command_hears_of_the_architecture_in_every_way(tmp_path: Path) -> None:
    script = tmp_path / "my train.py"
    script.write_text(
        "import json, os, sys\n"
        "told = json.load(open(sys.argv[1]))\n"
        "seen = [sys.argv, told, {k: v for k, v in os.environ.items() if k[:9] in ('COLLM_ARC', 'COLLM_SEE')}]\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(seen))\n"
        "print(json.dumps({'fitness': told['choices']['kernel']}))\n"
    )
    arch = DEEP.parse({"depth": 1, "kernel": 5, "op": "a b"})
    text = f"'{sys.executable}' '{script}' {{arch.json}} --a={{arch}} {{other}} {{}} '{{arch' $HOME"
    assert one(command.create(DEEP, text, seed=7), arch).fitness == 5.0
    argv, told, environment = json.loads((tmp_path / "seen").read_text())
    assert argv == [str(script), argv[1], f"--a={DEEP.format(arch)}", "{other}", "{}", "{arch", "$HOME"]
    assert told == {"space": "deep", "arch": DEEP.format(arch), "compact": DEEP.format(arch, "compact"), "choices": {
        "depth": 1, "kernel": 5, "op": "a b"}}  # fmt: skip
    assert environment == {"COLLM_ARCH": DEEP.format(arch), "COLLM_ARCH_JSON": argv[1], "COLLM_SEED": "7"}
    assert DEEP.parse(told["choices"]) == arch and not Path(argv[1]).exists()


@pytest.mark.parametrize("op", ["$(touch hacked)", "`touch hacked`; |&>", "'\"\\", "{arch.json}", "%s {0}"])
def test_what_an_architecture_is_called_is_no_program(op: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    space = CategoricalSpace("odd", [Variable("op", (op, "plain"))])
    text = f'{sys.executable} -c \'import sys; open("said", "w").write(sys.argv[1]); print(1)\' {{arch}}'
    assert one(command.create(space, text), space.make((0,))).fitness == 1.0
    assert (tmp_path / "said").read_text() == op and not (tmp_path / "hacked").exists()


def test_a_space_too_large_for_compact_spelling() -> None:
    wide = CategoricalSpace("wide", [Variable("v", tuple(f"op{i}" for i in range(40)))])
    assert command.described(wide, wide.make((39,)))["compact"] is None
    cells = spaces.load("nasbench201")
    told = command.described(cells, cells.sample(Random(0)))
    assert cells.format(cells.parse(told["choices"])) == told["arch"]


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "fitness", "costs"),
    [
        ("echo 0.25", 0.25, {}),
        ("echo 0.1; echo 3; echo done; echo", 3.0, {}),
        ('echo "{\\"fitness\\": 2, \\"flops\\": 7, \\"time\\": 9}"', 2.0, {"flops": 7.0}),
        ('echo "{\\"fitness\\": 2, \\"costs\\": {\\"energy\\": 1}}"', 2.0, {"energy": 1.0}),
        ('printf "\\r 10%%\\r 100%%\\r4.5"', 4.5, {}),
        ('printf "\\377\\n1\\n"', 1.0, {}),
    ],
)
def test_the_last_line_of_json_counts(program: str, fitness: float, costs: dict[str, float]) -> None:
    found = one(shell(program))
    assert (found.fitness, found.costs, found.error) == (fitness, costs, None)


def test_a_column_and_a_standard_error() -> None:
    found = one(shell('echo "{\\"acc\\": 91, \\"error\\": 0.5}"', fitness="acc"))
    assert (found.fitness, found.error) == (91.0, 0.5)


@pytest.mark.parametrize(
    ("program", "said", "everywhere"),
    [
        ("exit 3", r"^the command ended with exit code 3$", False),
        ("echo a >&2; echo b >&2; exit 1", r"exit code 1: a \| b$", False),
        ("kill -9 $$", r"killed by SIGKILL \(often for want of memory\)$", False),
        ("exit 139", r"exit code 139 \(in a shell's words: killed by SIGSEGV\)$", False),
        ("no_such_program", r"exit code 127 \(not found\): .*no_such_program", True),
        ("echo nan", r"returned 'nan' as fitness", False),
        ("echo 0.5; echo -inf", r"returned '-inf' as fitness", False),
        ("echo null", r"returned 'None' as fitness", False),
        ('echo "{\\"fitness\\": NaN}"', r"returned 'nan' as fitness", False),
        ('echo "{\\"error\\": \\"it diverged\\"}"', r"^it diverged$", False),
        ('echo "[1, 2]"', r"returned '\[1, 2\]' as fitness", True),
        ("true", r"no line of JSON on stdout \(it printed nothing\)", False),
        ("echo loss: 3", r"no line of JSON on stdout \(its last line is 'loss: 3'\)", False),
        ('echo "{\\"acc\\": 1, \\"loss\\": 2}"', r"no 'fitness'; its keys are acc, loss: name one", True),
        ('echo "{\\"fitness\\": 1, \\"flops\\": \\"x\\"}"', r"'x' as cost 'flops'", True),
    ],
)
def test_why_there_is_no_fitness(program: str, said: str, everywhere: bool) -> None:
    text, found = reason(shell(program))
    assert re.search(said, text) and found == everywhere, text
    assert "\n" not in text


def test_a_command_that_goes_away(tmp_path: Path) -> None:
    script = tmp_path / "score"
    script.write_text("#!/bin/sh\necho 1\n")
    script.chmod(0o755)
    evaluator = command.create(SPACE, str(script))
    assert one(evaluator).fitness == 1.0
    script.unlink()
    assert reason(evaluator) == (f"the command cannot be started ({script}: No such file or directory)", True)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "is empty"),
        ("python 'train", {}, "cannot be read"),
        ("no_such_program {arch}", {}, "'no_such_program' is not found"),
        ("bash -c 'python train.py {arch}'", {}, '"\\$COLLM_ARCH" there'),
        ("bash -lc 'python train.py {arch.json}'", {}, '"\\$COLLM_ARCH_JSON" there'),
        ("true", {"timeout": 0}, "--evaluator-timeout"),
        ("true", {"timeout": float("nan")}, "--evaluator-timeout"),
        ("true", {"retries": -1}, "--evaluator-retries"),
    ],
)
def test_what_is_no_command(text: str, options: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        command.create(SPACE, text, **options)


def test_the_protocol_is_json_and_tells_commands_apart() -> None:
    first, second = (command.create(SPACE, text).protocol() for text in ("true", "true {arch}"))
    assert json.loads(json.dumps(first)) == first and first["command"] == "true"
    assert len(first["sha256"]) == 64 and first["sha256"] != second["sha256"]


# --- retries, time, processes -----------------------------------------------------------------------------------------


def test_retries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tries = tmp_path / "tries"
    program = f"echo x >>{tries}; test $(wc -l <{tries}) -gt 2 && echo 5"
    assert reason(shell(program))[0].startswith("the command ended with exit code 1")
    assert one(shell(program, retries=1)).fitness == 5.0
    assert [record.message for record in caplog.records] == [
        "2 1 3: the command ended with exit code 1; it is tried again (1 of 1)"
    ]
    tries.unlink()
    assert reason(shell("exit 127", retries=3))[1] and len(caplog.records) == 1


@pytest.mark.parametrize("polite", [True, False])
def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path, polite: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(command._process, "GRACE", 0.2)
    trap = "" if polite else 'trap "" TERM;'
    program = f"{trap} sleep 300 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/self; echo 1; echo late >&2; wait"
    text, _ = reason(shell(program + ";" + program, timeout=1.0))
    assert text == "the command took longer than 1 s (--evaluator-timeout) and was ended: late"
    for name in ("child", "self"):
        assert gone(int((tmp_path / name).read_text()))


def test_a_child_that_outlives_the_command_holds_nothing_up(tmp_path: Path) -> None:
    assert one(shell(f"sleep 300 & echo $! >{tmp_path}/child; echo 2")).fitness == 2.0
    assert gone(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_ends_with_whoever_ran_it(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "from tests.unit.evaluators.test_command import *\n"
        f"one(shell('sleep 300 & echo $! >{tmp_path}/child.new; mv {tmp_path}/child.new {tmp_path}/child; wait'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "child").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(number)
        process.wait(60)
    assert gone(int((tmp_path / "child").read_text()))


def gone(pid: int) -> bool:
    """Whether the process ends within some seconds (nobody may be there to take note of its end: state Z)."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_outputs_of_any_length_and_no_input() -> None:
    assert one(shell("head -c 3000000 /dev/zero >&2; seq 300000; read x || echo 4")).fitness == 4.0


def test_it_runs_where_it_was_made(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    evaluator = shell("pwd >here; echo 1")
    os.chdir("/")
    one(evaluator)
    assert (tmp_path / "here").read_text().strip() == str(tmp_path)
