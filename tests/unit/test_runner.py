from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from collm_nas import runner
from collm_nas.api import Architecture, Caps, Evaluation, Optimizer, Problem, UserError
from collm_nas.evaluators import function
from collm_nas.journal import Journal, read
from collm_nas.result import derive
from tests.unit.runs import SPACE, Scripted, ScriptedModel, evaluator, optimizer, problem, score, timeless

OPTIMIZERS = ("random", "local-search", "aging-evolution", "talker")


def search(name: str | Optimizer, journal: Journal | None = None, **options: Any) -> tuple[dict[str, Any], Journal]:
    journal = journal or Journal()
    task: Problem = options.pop("problem", None) or problem()
    chosen = optimizer(name, task, journal) if isinstance(name, str) else name
    runner.run(task, chosen, options.pop("evaluator", evaluator()), journal, **options)
    return derive(journal.events), journal


def a(text: str) -> Architecture:
    return SPACE.parse(" ".join(text))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_budget_counts_distinct_evaluations(name: str) -> None:
    result, _ = search(name, problem=problem(23), init=4, batch=5)
    archs = [row["arch"] for row in result["history"]]
    assert len(archs) == len(set(archs)) == result["counts"]["evaluated"] == 23
    assert result["ended"] == "budget"
    assert [row["proposer"] for row in result["history"][:4]] == ["init"] * 4
    assert result["best"]["fitness"] == max(score(SPACE.parse(x)) for x in archs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_seeds_give_equal_runs(name: str) -> None:
    first, second, other = (search(name, problem=problem(15, seed))[1].events for seed in (3, 3, 4))
    assert timeless(first) == timeless(second) != timeless(other)


def test_starts_come_first_and_count() -> None:
    result, _ = search("random", problem=problem(6), init=2, start_from=[a("213"), a("000"), a("213")])
    assert [row["proposer"] for row in result["history"]] == ["start"] * 2 + ["init"] * 2 + ["random"] * 2
    assert result["history"][0]["arch"] == "2 1 3" and result["counts"]["attempted"] == 7


def test_given_initial_points_replace_random_ones() -> None:
    result, _ = search("random", problem=problem(4), initial=[a("000"), a("111")])
    assert [row["arch"] for row in result["history"][:2]] == ["0 0 0", "1 1 1"]
    assert [row["proposer"] for row in result["history"][:2]] == ["init"] * 2


def test_every_candidate_has_its_verdict_and_is_told() -> None:
    foreign = Architecture("other", (0, 0, 0))
    script = Scripted([None, a("000"), a("000"), a("001"), foreign, a("002")], [a("002")], [a("001"), a("100")])
    result, journal = search(script, problem=problem(4), init=0, batch=2)
    verdicts = [e["verdict"] for e in journal.events if e["event"] == "candidate"]
    assert verdicts == [
        *("invalid", "evaluated", "repeated", "evaluated", "invalid", "surplus"),
        "evaluated",
        *("repeated", "evaluated"),
    ]
    assert [len(heard) for heard in script.heard] == [6, 1, 2]
    assert {o.verdict for o in script.heard[0]} == {"invalid", "evaluated", "repeated", "surplus"}
    assert result["counts"] == {"attempted": 9, "valid": 7, "unique": 4, "evaluated": 4}
    assert result["counts_by_proposer"]["model"] == result["counts"]


def test_over_cap_candidates_are_dropped_and_told() -> None:
    script = Scripted([a("200"), a("001")])
    task = problem(1, caps=Caps({"flops": 30.0}))
    result, journal = search(script, problem=task, init=0)
    assert [e["verdict"] for e in journal.events if e["event"] == "candidate"] == ["over-cap", "evaluated"]
    assert [(o.verdict, o.feasible) for o in script.heard[0]] == [("over-cap", False), ("evaluated", True)]
    assert result["counts"] == {"attempted": 2, "valid": 2, "unique": 2, "evaluated": 1}


def test_over_cap_candidates_are_evaluated_on_request_and_never_best() -> None:
    task = problem(2, caps=Caps({"flops": 30.0}, "evaluate"))
    result, _ = search(Scripted([a("213"), a("000")]), problem=task, init=0)
    assert [row["best_so_far"] for row in result["history"]] == [None, score(a("000"))]
    assert result["best"]["arch"] == "0 0 0"


def test_nothing_feasible_has_no_best() -> None:
    task = problem(1, caps=Caps({"flops": 30.0}, "evaluate"))
    result, _ = search(Scripted([a("213")]), problem=task, init=0)
    assert result["best"] is None and any("within the caps" in w for w in result["warnings"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_caps_hold_for_all_that_is_evaluated(name: str) -> None:
    result, journal = search(name, problem=problem(12, caps=Caps({"flops": 11.0})), init=3)
    assert all(e["costs"]["flops"] <= 11 for e in journal.events if e["event"] == "evaluation")
    assert result["counts"]["evaluated"] == 8 and result["ended"] == "exhausted"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_space_smaller_than_the_budget_ends(name: str) -> None:
    result, _ = search(name, problem=problem(100))
    assert result["counts"]["evaluated"] == 36 and result["ended"] == "exhausted"
    assert any("no architecture was left" in w for w in result["warnings"])


def test_random_init_alone_may_exhaust_the_space() -> None:
    result, _ = search("random", problem=problem(100), init=90)
    assert result["counts"]["evaluated"] == 36 and result["ended"] == "exhausted"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_target_stops_at_once(name: str) -> None:
    result, journal = search(name, problem=problem(36), target=20.0)
    fitnesses = [row["fitness"] for row in result["history"]]
    assert result["ended"] == "target" and fitnesses[-1] >= 20.0 > max([-99.0, *fitnesses[:-1]])
    assert journal.events[-1]["event"] == "end"


def test_the_target_must_be_feasible() -> None:
    task = problem(3, caps=Caps({"flops": 30.0}, "evaluate"))
    result, _ = search(Scripted([a("213"), a("010"), a("013")]), problem=task, init=0, target=2.0)
    assert result["ended"] == "target" and len(result["history"]) == 3


def test_one_who_repeats_itself_gets_random_ones() -> None:
    script = Scripted([a("000")], *[[a("000")]] * 3, [a("111")])
    result, _ = search(script, problem=problem(7), init=0, batch=5)
    assert [row["proposer"] for row in result["history"]] == ["model"] + ["fallback"] * 5 + ["model"]
    assert result["counts"]["attempted"] == 10
    assert any("5 candidates were drawn at random" in w for w in result["warnings"])
    assert [len(h) for h in script.heard] == [1, 1, 1, 1, 5, 1], "what is refused is told before the next ask"


def test_one_who_gives_up_gets_random_ones() -> None:
    result, _ = search(Scripted(), problem=problem(3), init=0)
    assert [row["proposer"] for row in result["history"]] == ["fallback"] * 3


def test_the_standard_error_is_recorded_and_resumed(tmp_path: Path) -> None:
    def noisy(arch: Architecture) -> Evaluation:
        return Evaluation(score(arch), error=None if arch.choices[2] else 0.125)

    given = {"problem": problem(12), "evaluator": function.create(SPACE, noisy, "score")}
    whole, journal = search("random", Journal(tmp_path / "j"), **given)
    journal.close()
    assert {row.get("error") for row in whole["history"]} == {None, 0.125}
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "k").write_bytes(b"".join(lines[:-4]))
    again, journal = search("random", Journal(tmp_path / "k"), **given)
    journal.close()
    assert again["history"] == whole["history"]


def test_time_is_up() -> None:
    result, _ = search("random", problem=problem(36), max_seconds=0.0)
    assert result["ended"] == "max-hours" and result["counts"]["evaluated"] == 0


def test_progress_is_told() -> None:
    told: list[tuple[int, int, float | None]] = []
    search("random", problem=problem(12), progress=lambda *args: told.append(args))
    assert [t[0] for t in told] == list(range(1, 13)) and told[-1][1] == 12
    assert [t[2] for t in told] == sorted(t[2] or -99 for t in told)


# --- resume -----------------------------------------------------------------------------------------------------------


def unbroken(path: Path, name: str, **options: Any) -> bytes:
    _, journal = search(name, Journal(path), **options)
    journal.close()
    return path.read_bytes()


def resumed(path: Path, data: bytes, name: str, **options: Any) -> tuple[Journal, int]:
    """The journal after resuming from these bytes, and how many evaluations were computed."""
    path.write_bytes(data)
    calls = 0

    def counted(arch: Architecture) -> float:
        nonlocal calls
        calls += 1
        return score(arch)

    _, journal = search(name, Journal(path), evaluator=function.create(SPACE, counted, "score"), **options)
    journal.close()
    return journal, calls


@pytest.mark.parametrize("name", ["local-search", "talker"])
def test_killed_between_any_two_lines(name: str, tmp_path: Path) -> None:
    short = {"problem": problem(12), "init": 3}
    whole = unbroken(tmp_path / "j", name, **short)
    lines = whole.splitlines(keepends=True)
    for n in range(1, len(lines) + 1):
        known = sum(b'{"event": "evaluation"' in line for line in lines[:n])
        journal, calls = resumed(tmp_path / "k", b"".join(lines[:n]), name, **short)
        assert timeless(journal.events) == timeless(read(tmp_path / "j")[0]), f"killed after line {n}"
        assert calls == 12 - known


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_killed_within_a_line(name: str, tmp_path: Path) -> None:
    short = {"problem": problem(12), "init": 3}
    whole = unbroken(tmp_path / "j", name, **short)
    events, _ = read(tmp_path / "j")
    rng = Random(name)
    for _ in range(10):
        n = int(rng.random() * len(whole))
        journal, _ = resumed(tmp_path / "k", whole[:n], name, **short)
        assert timeless(journal.events) == timeless(events), f"killed after byte {n}"


def test_a_finished_run_is_not_touched(tmp_path: Path) -> None:
    whole = unbroken(tmp_path / "j", "talker")
    model = ScriptedModel()
    journal = Journal(tmp_path / "j")
    runner.run(problem(), optimizer("talker", problem(), journal, model), evaluator(), journal)
    journal.close()
    assert model.calls == 0 and (tmp_path / "j").read_bytes() == whole


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_larger_budget_extends(name: str, tmp_path: Path) -> None:
    whole = unbroken(tmp_path / "j", name, problem=problem(15))
    direct, _ = search(name, problem=problem(30))
    journal, calls = resumed(tmp_path / "j", whole, name, problem=problem(15), budget=30)
    result = derive(journal.events)
    assert calls == 15 and (tmp_path / "j").read_bytes().startswith(whole)
    if name != "talker":  # whose batches are not always full, so that the old budget cut one short
        assert result["history"] == direct["history"], "15 is a whole number of batches, so nothing may differ"
    assert result["protocol"]["budget"] == 30 and [e["event"] for e in journal.events].count("header") == 2
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    for n in range(whole.count(b"\n"), len(lines), 7):
        again, _ = resumed(tmp_path / "k", b"".join(lines[:n]), name, problem=problem(15), budget=30)
        assert timeless(again.events) == timeless(journal.events)


def test_an_unfinished_run_may_be_extended(tmp_path: Path) -> None:
    whole = unbroken(tmp_path / "j", "local-search", problem=problem(15))
    half = b"".join(whole.splitlines(keepends=True)[:20])
    journal, _ = resumed(tmp_path / "j", half, "local-search", problem=problem(15), budget=30)
    assert [e["budget"] for e in journal.events if e["event"] == "header"] == [15, 30]
    assert derive(journal.events)["counts"]["evaluated"] == 30


def test_a_run_whose_time_was_up_stays_so(tmp_path: Path) -> None:
    whole = unbroken(tmp_path / "j", "random", max_seconds=0.0)
    journal, calls = resumed(tmp_path / "j", whole, "random", max_seconds=0.0)
    assert calls == 0 and derive(journal.events)["ended"] == "max-hours"
    assert (tmp_path / "j").read_bytes() == whole


def test_earlier_sessions_count_to_the_time(tmp_path: Path) -> None:
    whole = unbroken(tmp_path / "j", "random")
    lines = whole.splitlines(keepends=True)[:20]
    import json

    late = json.loads(lines[-1])
    lines[-1] = json.dumps({**late, "time": 7200.0}).encode() + b"\n"
    journal, _ = resumed(tmp_path / "k", b"".join(lines), "random", max_seconds=3600.0)
    result = derive(journal.events)
    assert result["ended"] == "max-hours" and result["seconds"]["total"] >= 7200


def test_a_changed_search_is_noticed(tmp_path: Path) -> None:
    unbroken(tmp_path / "j", "random")
    with pytest.raises(UserError, match="differs at line"):
        search("local-search", Journal(tmp_path / "j"))
