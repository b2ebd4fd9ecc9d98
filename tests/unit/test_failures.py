"""Evaluations that fail: the search goes on, the journal knows, and a resumed run is the one that was never killed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from collm_nas import open_search, rundir, runner, search
from collm_nas.api import Architecture, Evaluation, EvaluationError, Problem, UserError
from collm_nas.evaluators import attempt, function
from collm_nas.failures import Failures
from collm_nas.journal import Journal, read
from collm_nas.result import derive
from data_gen import logs
from tests.unit.runs import SPACE, Scripted, ScriptedModel, evaluator, optimizer, problem, score, timeless

NAMES = ("random", "local-search", "aging-evolution", "gp", "tpe", "talker")


def a(text: str) -> Architecture:
    return SPACE.parse(" ".join(text))


def moody(arch: Architecture) -> Any:
    """A third fails, each in its own way."""
    match arch.choices[1:]:
        case (0, 0):
            raise RuntimeError("out\nof luck")
        case (1, 1):
            return math.nan
        case (2, 2):
            return {"error": "it diverged"}
        case (2, 3):
            raise SystemExit(1)
    return score(arch)


FAILING = [arch for arch in SPACE.all() if arch.choices[1:] in ((0, 0), (1, 1), (2, 2), (2, 3))]


def run(
    name: Any, path: Path | None = None, scored: Callable[[Architecture], Any] = moody, **options: Any
) -> dict[str, Any]:
    """The result of a search whose journal is at `path`; `most`, `retry`: of `Failures`."""
    journal = Journal(path)
    task: Problem = options.pop("problem", None) or problem()
    failures = Failures(journal, options.pop("most", 10), options.pop("retry", False))
    made = optimizer(name, task, journal) if isinstance(name, str) else name
    try:
        runner.run(task, made, function.create(SPACE, scored, "f"), journal, failures=failures, **options)
        return derive(journal.events)
    finally:
        journal.close()


# --- one evaluation ---------------------------------------------------------------------------------------------------


class Broken:
    """An evaluator that returns or raises what it is given."""

    def __init__(self, brings: Evaluation | BaseException) -> None:
        self.brings = brings

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        if isinstance(self.brings, Evaluation):
            return [self.brings]
        raise self.brings

    costs = report = lambda self, arch: {}
    protocol = dict


@pytest.mark.parametrize(
    ("brings", "said", "everywhere"),
    [
        (Evaluation(math.nan), "its fitness is nan, but must be a finite number", False),
        (Evaluation(-math.inf), "its fitness is -inf", False),
        (Evaluation(1.0, {"flops": math.inf}), "its cost 'flops' is inf", False),
        (Evaluation(1.0, error=-1.0), "its standard error is -1.0", False),
        (Evaluation(1.0, error=math.nan), "its standard error is nan", False),
        (ValueError("two\n  lines"), "ValueError: two lines (test_failures.py:", False),
        (MemoryError(), "MemoryError (test_failures.py:", False),
        (SystemExit(3), "SystemExit: 3", False),
        (RuntimeError("x" * 5000), "RuntimeError: xxx", False),
        (EvaluationError("no"), "no", False),
        (EvaluationError("never", everywhere=True), "never", True),
        (UserError("mend it"), "mend it", True),
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'", True),
    ],
    ids=str,
)
def test_why_there_is_no_evaluation(brings: Any, said: str, everywhere: bool) -> None:
    failure = attempt(Broken(brings), a("000"))  # type: ignore[arg-type]
    assert not isinstance(failure, Evaluation)
    assert failure.reason.startswith(said) and failure.everywhere == everywhere
    assert "\n" not in failure.reason and len(failure.reason) <= 400


def test_ctrl_c_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt(Broken(KeyboardInterrupt()), a("000"))  # type: ignore[arg-type]


# --- a search ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_search_goes_on_and_spends_no_query(name: str) -> None:
    result = run(name, problem=problem(24))
    assert result["counts"]["evaluated"] == len(result["history"]) == 24 and result["ended"] in ("budget", "exhausted")
    failed = [row["arch"] for row in result["failures"]]
    assert len(failed) == len(set(failed)) == result["counts"]["failed"] > 0, "none is asked for again"
    assert {SPACE.parse(arch) for arch in failed} <= set(FAILING)
    assert result["counts"]["unique"] == 24 + len(failed)
    by = result["counts_by_proposer"]
    assert sum(counts.get("failed", 0) for counts in by.values()) == len(failed)
    reasons = {row["reason"].partition(" (")[0] for row in result["failures"]}
    assert reasons <= {
        *("RuntimeError: out of luck", "SystemExit: 1", "it diverged"),
        "f returned 'nan' as fitness; return a finite number",
    }
    assert any(f"{len(failed)} evaluations failed: " in w for w in result["warnings"])


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_space(name: str) -> None:
    result = run(name, problem=problem(100), most=36)
    assert result["counts"]["evaluated"] == 24 and result["counts"]["failed"] == 12 and result["ended"] == "exhausted"


def test_without_failures_nothing_is_said() -> None:
    result = run("random", scored=score)
    assert "failed" not in result["counts"] and "failures" not in result


def test_the_optimiser_hears() -> None:
    script = Scripted([a("000"), a("001"), a("011")], [a("000"), a("002")], [a("012")])
    run(script, problem=problem(3), init=0, batch=3)
    heard = [[(o.verdict, o.evaluation is None) for o in batch] for batch in script.heard]
    assert heard == [
        [("failed", True), ("evaluated", False), ("failed", True)],
        [("repeated", True), ("evaluated", False)],
        [("evaluated", False)],
    ]


def test_seconds_and_order_are_in_the_journal(tmp_path: Path) -> None:
    run(Scripted([a("000"), a("001")]), tmp_path / "j", problem=problem(3), init=0, batch=2)
    events = [e for e in read(tmp_path / "j")[0] if e["event"] in ("candidate", "failure", "evaluation")]
    assert [e["event"] for e in events[:4]] == ["candidate"] * 2 + ["failure", "evaluation"]
    failure = events[2]
    assert failure["arch"] == "0 0 0" and failure["proposer"] == "model" and failure["seconds"] >= 0
    assert events[3]["query"] == 1


def test_evaluators_of_several_objectives_and_caps() -> None:
    result = search(
        SPACE, moody, optimizer="gp", budget=20, max_flops=40, over_cap="evaluate", objective=["fitness", "flops"]
    )
    assert result.counts["evaluated"] == 20 and result["front"]


# --- stops ------------------------------------------------------------------------------------------------------------


def test_many_in_a_row_stop_with_the_last_reason(tmp_path: Path) -> None:
    def broken(arch: Architecture) -> float:
        if len(done) >= 5:
            raise OSError("the disk is full")
        done.append(arch)
        return score(arch)

    done: list[Architecture] = []
    with pytest.raises(UserError, match=r"after 4 failures in a row, the last one: OSError: the disk is full \(") as e:
        run("local-search", tmp_path / "j", broken, most=4, init=3)
    assert "--resume" in str(e.value) and "\n" not in str(e.value)
    held = derive(read(tmp_path / "j")[0])
    assert held["ended"] == "failures" and held["counts"]["evaluated"] == 5 and held["counts"]["failed"] == 4
    failed = {row["arch"] for row in held["failures"]}

    done.clear()
    again = run("local-search", tmp_path / "j", score, most=4, init=3)
    assert again["counts"]["evaluated"] == 20 and again["history"][:5] == held["history"]
    assert again["ended"] == "budget" and again["counts"]["failed"] == 4
    assert not failed & {row["arch"] for row in again["history"]}, "what failed is left alone"


def test_what_was_accepted_when_it_stopped_is_evaluated_later(tmp_path: Path) -> None:
    def broken(arch: Architecture) -> float:
        raise OSError

    with pytest.raises(UserError):
        run("random", tmp_path / "j", broken, most=3, init=8)
    result = run("random", tmp_path / "j", score, most=3, init=8)
    assert [row["proposer"] for row in result["history"][:6]] == ["init"] * 5 + ["random"]
    assert result["counts"]["evaluated"] == 20


def test_a_success_breaks_the_row() -> None:
    turns = iter([False, False, True] * 100)
    result = run("random", scored=lambda arch: score(arch) if next(turns) else None, most=3, problem=problem(12))
    assert result["counts"] == {"attempted": 36, "valid": 36, "unique": 36, "evaluated": 12, "failed": 24}


@pytest.mark.parametrize("wrong", ["much", {"accuracy": 1}, ImportError("No module named 'x'"), UserError("mend it")])
def test_what_all_would_meet_stops_at_once(wrong: Any, tmp_path: Path) -> None:
    calls: list[Architecture] = []

    def configured(arch: Architecture) -> Any:
        calls.append(arch)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    with pytest.raises(UserError, match=r"^the first evaluation failed, and others would too: .*; mend that"):
        run("random", tmp_path / "j", configured)
    assert len(calls) == 1 and not [e for e in read(tmp_path / "j")[0] if e["event"] == "failure"]
    assert run("random", tmp_path / "j", score)["history"][0]["arch"] == SPACE.format(calls[0])


def test_the_same_later_is_a_failure() -> None:
    brings = iter([1.0, 2.0, "much", UserError("mend it"), *[3.0] * 90])

    def brought(arch: Architecture) -> Any:
        value = next(brings)
        if isinstance(value, Exception):
            raise value
        return value

    assert run("random", scored=brought)["counts"]["failed"] == 2


# --- resumed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["local-search", "tpe", "talker"])
def test_killed_between_any_two_lines(name: str, tmp_path: Path) -> None:
    short: dict[str, Any] = {"problem": problem(12), "init": 3}
    run(name, tmp_path / "j", **short)
    whole, lines = read(tmp_path / "j")[0], (tmp_path / "j").read_bytes().splitlines(keepends=True)
    assert sum(e["event"] == "failure" for e in whole) > 2
    for n in range(1, len(lines) + 1, 1 if name == "local-search" else 7):
        calls: list[Architecture] = []

        def counted(arch: Architecture, calls: list[Architecture] = calls) -> Any:
            calls.append(arch)
            return moody(arch)

        (tmp_path / "k").write_bytes(b"".join(lines[:n]))
        run(name, tmp_path / "k", counted, **short)
        assert timeless(read(tmp_path / "k")[0]) == timeless(whole), f"killed after line {n}"
        assert len(calls) == sum(e["event"] in ("evaluation", "failure") for e in whole[n:])


def test_killed_anywhere_around_a_stop(tmp_path: Path) -> None:
    """First everything fails, then nothing does: kills change neither where it stops nor what comes after."""

    def session(path: Path, scored: Callable[[Architecture], Any]) -> None:
        run("local-search", path, scored, most=3, init=5, problem=problem(12))

    def broken(arch: Architecture) -> None:
        return None

    def stopped(path: Path) -> list[bytes]:
        with pytest.raises(UserError, match="after 3 failures in a row"):
            session(path, broken)
        return path.read_bytes().splitlines(keepends=True)

    first = stopped(tmp_path / "j")
    session(tmp_path / "j", score)
    whole = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    assert whole[: len(first)] == first
    for n in range(1, len(first)):
        (tmp_path / "k").write_bytes(b"".join(first[:n]))
        stopped(tmp_path / "k")
        assert timeless(read(tmp_path / "k")[0]) == timeless(read(tmp_path / "j")[0])[: len(first)], n
    for n in range(len(first), len(whole)):
        (tmp_path / "k").write_bytes(b"".join(whole[:n]))
        session(tmp_path / "k", score)
        assert timeless(read(tmp_path / "k")[0]) == timeless(read(tmp_path / "j")[0]), n


@pytest.mark.parametrize("name", ["local-search", "tpe", "talker"])
def test_failed_ones_are_tried_again_on_request(name: str, tmp_path: Path) -> None:
    run(name, tmp_path / "j", problem=problem(100), most=36)
    unasked = run(name, tmp_path / "j", score, problem=problem(100))
    assert unasked["ended"] == "exhausted" and unasked["counts"]["evaluated"] == 24
    result = run(name, tmp_path / "j", score, problem=problem(100), retry=True)
    assert result["counts"]["evaluated"] == 36 and result["counts"]["failed"] == 12
    assert {SPACE.parse(row["arch"]) for row in result["history"][24:]} == set(FAILING)
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    events = read(tmp_path / "j")[0]
    for n in range([e["event"] for e in events].index("retry"), len(lines), 3):
        (tmp_path / "k").write_bytes(b"".join(lines[:n]))
        run(name, tmp_path / "k", score, problem=problem(100), retry=True)
        assert timeless(read(tmp_path / "k")[0]) == timeless(events), n


def test_what_fails_again_is_left_alone_again(tmp_path: Path) -> None:
    run("random", tmp_path / "j", problem=problem(100), most=36)
    result = run("random", tmp_path / "j", problem=problem(100), most=36, retry=True)
    assert result["counts"] | {"failed": 12} == run("random", problem=problem(100), most=36)["counts"]
    assert result["counts"]["failed"] == 24 and result["ended"] == "exhausted"


def test_a_retry_in_the_middle_comes_first(tmp_path: Path) -> None:
    run("random", tmp_path / "j", problem=problem(20))
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "k").write_bytes(b"".join(lines[: len(lines) * 2 // 3]))
    failed = [e["arch"] for e in read(tmp_path / "k")[0] if e["event"] == "failure"]
    result = run("random", tmp_path / "k", score, problem=problem(20), retry=True)
    assert failed and set(failed) <= {row["arch"] for row in result["history"]}
    assert result["counts"]["evaluated"] == 20


# --- what is made of such a run ---------------------------------------------------------------------------------------


def test_result_and_report_from_the_journal_bit_for_bit(tmp_path: Path) -> None:
    search(SPACE, moody, optimizer="collm", model=ScriptedModel(), budget=20, out=tmp_path / "r")
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    page = before["report.html"].decode()
    assert "Evaluations that failed" in page and "it diverged" in page and ">failed</t" in page
    for name in ("result.json", "report.html"):
        (tmp_path / "r" / name).unlink()
    rundir.write(tmp_path / "r")
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before


def test_such_runs_are_reused_and_mined(tmp_path: Path) -> None:
    first = search(SPACE, moody, optimizer="random", budget=12, out=tmp_path / "r")
    second = search(SPACE, moody, optimizer="random", budget=5, seed=1, reuse=tmp_path / "r")
    assert second["reused"] == 12
    [log] = logs.from_folder(tmp_path / "r")
    assert [SPACE.format(arch) for arch in log.archs] == [row["arch"] for row in first.history]


def test_a_report_that_cannot_be_read_ends_no_search(tmp_path: Path) -> None:
    class Unread(function.FunctionEvaluator):
        def report(self, arch: Architecture) -> dict[str, float]:
            raise RuntimeError("the test images are gone")

    result = search(SPACE, Unread(SPACE, score, "f"), optimizer="random", budget=3, out=tmp_path / "r")
    assert result.ended == "budget" and result.best is not None and result.best["report"] == {}
    assert any("the test images are gone" in w for w in result["warnings"])
    again = search(SPACE, evaluator(), optimizer="random", budget=3)
    assert again.history == result.history


# --- told from outside ------------------------------------------------------------------------------------------------


def test_failures_are_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": "local-search", "budget": 12, "out": tmp_path / "r"}
    values = {SPACE.format(a): moody(a) for a in SPACE.all() if a not in FAILING}
    loop = open_search(SPACE, **options)
    asked: list[Architecture] = []
    while archs := loop.ask(4):
        asked += archs
        bad = [None, math.nan, {"error": "it diverged"}, math.inf]
        loop.tell(archs, [values.get(SPACE.format(a), bad[i]) for i, a in enumerate(archs)])
        if len(asked) > 8 and options.get("resume") is None:
            loop.close()
            options["resume"] = True
            loop = open_search(SPACE, **options)
    result = loop.result()
    loop.close()
    assert len(asked) == len(set(asked)) and result.counts["evaluated"] == 12
    assert result.counts["failed"] == len(asked) - 12 > 0
    whole = open_search(SPACE, **options).result()
    assert whole.to_dict() == result.to_dict()


def test_many_told_failures_end_it_until_it_is_opened_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer": "random", "budget": 12, "max_failures": 3, "out": tmp_path / "r"}
    loop = open_search(SPACE, **options)
    while archs := loop.ask(2):
        loop.tell(archs, [None] * len(archs))
    assert loop.result().ended == "failures" and loop.result().counts["failed"] == 4
    loop.close()
    loop = open_search(SPACE, **options, resume=True)
    while archs := loop.ask(2):
        loop.tell(archs, [score(a) for a in archs])
    assert loop.result().ended == "budget" and loop.result().counts["evaluated"] == 12
