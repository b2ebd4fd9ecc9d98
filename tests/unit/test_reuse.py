"""Evaluations taken over from earlier runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from collm_nas import open_search, rundir, search
from collm_nas.api import Architecture, Evaluation, UserError, Variable
from collm_nas.evaluators import function, table
from collm_nas.journal import read
from collm_nas.spaces.base import CategoricalSpace
from tests.unit.runs import SPACE, Scripted, ScriptedModel, problem, score, timeless

CALLS: list[Architecture] = []


def counted(arch: Architecture) -> Evaluation:
    CALLS.append(arch)
    return Evaluation(score(arch), error=0.5)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def go(out: Path, optimizer: str = "local-search", budget: int = 10, **options: Any) -> Any:
    if optimizer == "collm":
        options["model"] = ScriptedModel()
    return search(SPACE, counted, optimizer=optimizer, budget=budget, out=out, **options)


def archs(result: Any) -> set[str]:
    return {row["arch"] for row in result.history}


@pytest.mark.parametrize("optimizer", ["random", "local-search", "aging-evolution", "gp", "digest-only", "collm"])
def test_what_was_evaluated_is_known_and_costs_no_query(tmp_path: Path, optimizer: str) -> None:
    first = go(tmp_path / "a")
    second = go(tmp_path / "b", optimizer, seed=1, reuse=tmp_path / "a")
    assert second.counts["evaluated"] == len(second.history) == 10 and second["reused"] == 10
    assert not archs(first) & archs(second) and len(CALLS) == len(set(CALLS)) == 20
    assert [row["query"] for row in second.history] == list(range(1, 11))
    best = max([*first.history, *second.history], key=lambda row: row["fitness"])
    assert second.best is not None and second.best["arch"] == best["arch"]
    assert second.history[0]["best_so_far"] >= first.best["fitness"]
    assert second["protocol"]["reused"] == {str(tmp_path / "a"): 10}
    assert "reuse" not in second["counts_by_proposer"]


def test_the_optimiser_is_told_before_it_is_asked() -> None:
    from collm_nas import runner
    from collm_nas.journal import Journal

    row = {"arch": "2 1 3", "fitness": 22.11, "costs": {"flops": 51.0}, "seconds": 1.0, "source": "s", "run": "r"}
    script, journal = Scripted([SPACE.parse("0 0 0"), SPACE.parse("2 1 3")]), Journal()
    runner.run(problem(1), script, function.create(SPACE, score), journal, init=0, pool=[row])
    [first], [refused, evaluated] = script.heard
    assert (first.candidate.proposer, first.verdict, first.feasible) == ("reuse", "evaluated", True)
    assert first.evaluation == Evaluation(22.11, {"flops": 51.0}, 1.0, "s")
    assert (refused.verdict, evaluated.verdict) == ("repeated", "evaluated")
    assert [e["unique"] for e in journal.events if e["event"] == "candidate"] == [True, False]


def test_a_reused_best_is_reported_with_its_run(tmp_path: Path) -> None:
    go(tmp_path / "a", start_from=["2 1 3"])
    result = go(tmp_path / "b", "random", budget=2, reuse=[tmp_path / "a"])
    assert result.best == {
        **{"arch": "2 1 3", "fitness": score(SPACE.parse("2 1 3")), "report": {}, "costs": {"flops": 51.0}},
        **{"error": 0.5, "run": str(tmp_path / "a")},
    }
    page = (tmp_path / "b" / "report.html").read_text()
    assert "taken over from" in page and "10 taken over from earlier runs" in page


def test_the_target_may_be_met_by_what_is_reused(tmp_path: Path) -> None:
    go(tmp_path / "a", start_from=["2 1 3"])
    result = go(tmp_path / "b", reuse=tmp_path / "a", target=22.0)
    assert result.ended == "target" and not result.history and result.best["arch"] == "2 1 3"


def test_what_is_reused_may_be_over_a_cap(tmp_path: Path) -> None:
    go(tmp_path / "a", start_from=["2 1 3"])
    result = go(tmp_path / "b", reuse=tmp_path / "a", max_flops=31)
    assert result.best["costs"]["flops"] <= 31 and result["reused"] == 10
    header = read(tmp_path / "b" / "journal.jsonl")[0][0]
    assert {row["feasible"] for row in header["reused"]} == {True, False}
    same = Slow("tests.unit.test_reuse:counted")
    with pytest.raises(UserError, match="its evaluations have no latency, which --max-latency needs"):
        search(SPACE, same, optimizer="random", out=tmp_path / "c", reuse=tmp_path / "a", max_latency=5.0)


def test_all_of_a_space_is_known(tmp_path: Path) -> None:
    go(tmp_path / "a", "random", budget=40)
    result = go(tmp_path / "b", reuse=tmp_path / "a")
    assert result.ended == "exhausted" and result["reused"] == 36 and not result.history


def test_a_chain_names_where_each_was_evaluated(tmp_path: Path) -> None:
    go(tmp_path / "a")
    go(tmp_path / "b", seed=1, reuse=tmp_path / "a")
    third = go(tmp_path / "c", seed=2, budget=5, reuse=[tmp_path / "b", tmp_path / "a"])
    assert third["protocol"]["reused"] == {str(tmp_path / "a"): 10, str(tmp_path / "b"): 10}


@pytest.mark.parametrize("optimizer", ["local-search", "collm"])
def test_the_journal_alone_is_enough(tmp_path: Path, optimizer: str) -> None:
    """Killed after any line and resumed without --reuse, the earlier run gone: nothing differs."""
    go(tmp_path / "a")
    whole = go(tmp_path / "b", optimizer, init=3, seed=1, reuse=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    files = {name: (tmp_path / "b" / name).read_bytes() for name in ("result.json", "report.html")}
    lines = (tmp_path / "b" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for n in range(1, len(lines) + 1):
        (tmp_path / "k").mkdir()
        (tmp_path / "k" / "journal.jsonl").write_bytes(b"".join(lines[:n]))
        again = go(tmp_path / "k", optimizer, init=3, seed=1, resume=True)
        assert again.history == whole.history and again.best == whole.best and again["reused"] == 10
        shutil.rmtree(tmp_path / "k")
    for name in files:
        (tmp_path / "b" / name).unlink()
    rundir.write(tmp_path / "b")
    assert files == {name: (tmp_path / "b" / name).read_bytes() for name in files}


def test_the_same_command_resumes(tmp_path: Path) -> None:
    go(tmp_path / "a")
    go(tmp_path / "b", seed=1, reuse=tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    go(tmp_path / "b", seed=1, reuse=tmp_path / "a", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before
    longer = go(tmp_path / "b", seed=1, reuse=tmp_path / "a", resume=True, budget=15)
    assert longer.counts["evaluated"] == 15 and longer["reused"] == 10 and len(set(CALLS)) == len(CALLS)


def test_a_finished_run_takes_over_what_is_new(tmp_path: Path) -> None:
    go(tmp_path / "a")
    go(tmp_path / "b", "random", seed=1, start_from=["2 1 3"])
    best = go(tmp_path / "a", resume=True, reuse=tmp_path / "b").best
    assert best["arch"] == "2 1 3" and best["run"] == str(tmp_path / "b")
    events = read(tmp_path / "a" / "journal.jsonl")[0]
    assert [e["event"] for e in events[-3:]] == ["end", "header", "end"]
    go(tmp_path / "a", resume=True, reuse=tmp_path / "b")
    assert timeless(read(tmp_path / "a" / "journal.jsonl")[0]) == timeless(events)
    longer = go(tmp_path / "a", resume=True, budget=16)
    assert longer.counts["evaluated"] == 16 and longer["reused"] == len(events[-2]["reused"])


def test_report_columns_are_read_once(tmp_path: Path) -> None:
    read_for: list[Architecture] = []

    class Reporting(function.FunctionEvaluator):
        def report(self, arch: Architecture) -> dict[str, float]:
            read_for.append(arch)
            return {"test": 1.0}

    def run(out: Path, **options: Any) -> Any:
        return search(SPACE, Reporting(SPACE, score, "s"), optimizer="random", budget=6, out=out, **options)

    run(tmp_path / "a", start_from=["2 1 3"])
    run(tmp_path / "b", seed=1)
    result = run(tmp_path / "a", start_from=["2 1 3"], reuse=tmp_path / "b", resume=True)
    assert len(read_for) == 2 and result.best["report"] == {"test": 1.0}, "the winner stayed, its columns too"


def test_open_search_takes_over(tmp_path: Path) -> None:
    first = go(tmp_path / "a")
    loop = open_search(SPACE, optimizer="random", budget=3, out=tmp_path / "b", seed=1)
    loop.close()
    with pytest.raises(UserError, match="its evaluations were made with function"):
        open_search(SPACE, optimizer="random", budget=3, out=tmp_path / "b", reuse=tmp_path / "a")
    loop = open_search(SPACE, optimizer="random", budget=30, out=tmp_path / "c")
    loop.tell(asked := loop.ask(8), [score(arch) for arch in asked])
    loop.close()
    loop = open_search(SPACE, optimizer="random", budget=3, out=tmp_path / "d", seed=1, reuse=tmp_path / "c")
    assert not set(asked) & set(loop.ask(3)) and loop.result()["reused"] == 8
    loop.close()
    assert first.counts["evaluated"] == 10


def test_only_runs_of_the_same_space_and_protocol(tmp_path: Path) -> None:
    go(tmp_path / "a")
    out = tmp_path / "b"

    def refused(sentence: str, space: Any = SPACE, evaluator: Any = counted, **options: Any) -> None:
        with pytest.raises(UserError) as error:
            search(space, evaluator, optimizer="random", out=out, **{"reuse": tmp_path / "a", **options})
        assert sentence in str(error.value) and "\n" not in str(error.value) and not out.exists()

    refused("--reuse nowhere holds no journal.jsonl", reuse="nowhere")
    refused("its evaluations were made with function 'tests.unit.test_reuse:counted', those of", evaluator=score)
    other = CategoricalSpace("tiny", [Variable("a", ("0", "1"))])
    refused("that run is of another definition of the space 'tiny'", other)
    refused("that run is of the space 'tiny', this search is of 'small'", CategoricalSpace("small", other.variables))
    (tmp_path / "a" / "journal.jsonl").write_text("{}\n{}\n")
    refused("is damaged at line 1")


def test_a_table_is_known_by_its_hash(tmp_path: Path) -> None:
    rows = [f"{a} {b} {c},{a * b},{c}" for a in range(3) for b in range(3) for c in range(4)]
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("\n".join(["arch,valid,test", *rows]) + "\n")
    (tmp_path / "other.csv").write_text("\n".join(["arch,valid,test", *rows[:-1], "2 2 3,9,9"]) + "\n")

    def run(name: str, out: str, fitness: str = "valid", report: tuple[str, ...] = (), **options: Any) -> Any:
        evaluator = table.load(SPACE, tmp_path / name, fitness, report)
        return search(SPACE, evaluator, optimizer="random", budget=5, out=tmp_path / out, **options)

    run("one.csv", "a")
    assert run("two.csv", "b", report=("test",), reuse=tmp_path / "a")["reused"] == 5
    with pytest.raises(UserError, match=r"made with sha256 '[0-9a-f]+…, those of"):
        run("other.csv", "c", reuse=tmp_path / "a")
    with pytest.raises(UserError, match="made with fitness 'valid', those of this search are made with 'test'"):
        run("one.csv", "c", fitness="test", reuse=tmp_path / "a")


# --- costs that are measured ------------------------------------------------------------------------------------------


class Slow(function.FunctionEvaluator):
    """Measures a latency that is never the same twice."""

    latency = True

    def __init__(self, name: str, start: float = 0.0) -> None:
        super().__init__(SPACE, score, name)
        object.__setattr__(self, "clock", [start])

    def costs(self, arch: Architecture) -> dict[str, float]:
        clock: list[float] = self.clock  # type: ignore[attr-defined]
        clock[0] += 0.001
        return {"latency": 1.0 + sum(arch.choices) + clock[0]}


@pytest.mark.parametrize("optimizer", ["local-search", "collm"])
def test_a_measured_latency_is_measured_once_a_run(tmp_path: Path, optimizer: str) -> None:
    """A resumed run measured it anew, found others over the cap, and refused its own journal."""

    def run(out: Path, start: float, resume: bool = False) -> Any:
        models: dict[str, Any] = {"model": ScriptedModel()} if optimizer == "collm" else {}
        options: dict[str, Any] = {"optimizer": optimizer, "budget": 8, "init": 3, "max_latency": 5.0, **models}
        return search(SPACE, Slow("s", start), out=out, resume=resume, **options)

    whole = run(tmp_path / "a", 0.0)
    assert all(row["feasible"] for row in whole.history)
    lines = (tmp_path / "a" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    measured = [e["arch"] for e in events if e["event"] == "cost"]
    assert len(measured) == len(set(measured)) and events[0]["event"] == "header"
    for n in range(1, len(lines), 3):
        (tmp_path / "k").mkdir()
        (tmp_path / "k" / "journal.jsonl").write_bytes(b"".join(lines[:n]))
        again = run(tmp_path / "k", 0.5, resume=True)
        assert again.ended == "budget" and read(tmp_path / "k" / "journal.jsonl")[0][:n] == events[:n]
        shutil.rmtree(tmp_path / "k")


def test_reused_latencies_are_those_of_then(tmp_path: Path) -> None:
    first = search(SPACE, Slow("s"), optimizer="random", budget=6, max_latency=9.0, out=tmp_path / "a")
    costs = {e["arch"]: e["costs"] for e in read(tmp_path / "a" / "journal.jsonl")[0] if e["event"] == "evaluation"}
    search(
        SPACE, Slow("s", 3.0), optimizer="random", budget=6, max_latency=5.0, out=tmp_path / "b", reuse=tmp_path / "a"
    )
    header = read(tmp_path / "b" / "journal.jsonl")[0][0]
    assert {row["arch"]: row["costs"] for row in header["reused"]} == costs and len(first.history) == 6
    assert {row["feasible"] for row in header["reused"]} <= {True, False}
