from __future__ import annotations

import json
from typing import Any

import pytest

from collm_nas.api import UserError
from collm_nas.result import derive, dumps

HEADER = {
    "event": "header",
    "seed": 3,
    "budget": 4,
    "space": {"name": "tiny"},
    "space_sha256": "ab",
    "protocol": {"source": "table", "table": "t.csv", "sha256": "cd", "fitness": "valid", "report": ["test"]},
    "options": {"optimizer": "collm", "decoding": "new", "batch": 5},
    "engine": {"engine": "scripted"},
    "seen": "unseen",
    "versions": {"python": "3.11"},
    "time": 0.5,
}


def candidate(
    arch: str | None, proposer: str = "model", verdict: str = "evaluated", unique: bool = True
) -> dict[str, Any]:
    return {"event": "candidate", "arch": arch, "proposer": proposer, "verdict": verdict, "unique": unique, "time": 1.0}


def evaluation(query: int, arch: str, fitness: float, proposer: str = "model", feasible: bool = True) -> dict[str, Any]:
    return {
        "event": "evaluation",
        "query": query,
        "arch": arch,
        "fitness": fitness,
        "costs": {"flops": 1.5},
        "feasible": feasible,
        "seconds": 0.25,
        "proposer": proposer,
        "time": 2.0 + query,
    }


def completion(role: str, *finished: bool) -> dict[str, Any]:
    n = len(finished)
    return {
        "event": "completion",
        "role": role,
        "tokens": [7] * n,
        "prompt_tokens": [10] * n,
        "seconds": [0.125] * n,
        "finished": list(finished),
        "time": 1.0,
    }


EVENTS = [
    HEADER,
    candidate("a", "init"),
    evaluation(1, "a", 1.1, "init"),
    completion("navigator", True),
    completion("generator", True, False),
    candidate("b"),
    candidate("c"),
    candidate(None, verdict="invalid", unique=False),
    candidate("a", verdict="repeated", unique=False),
    evaluation(2, "b", 9.0, feasible=False),
    evaluation(3, "c", 1.0 / 3),
    candidate("d", "fallback"),
    evaluation(4, "d", 1.1, "fallback"),
]
END = {"event": "end", "reason": "budget", "report": {"test": 0.1}, "time": 9.75}


def test_fitness_alone_has_no_front() -> None:
    assert not {"front", "hypervolume", "objectives"} & set(derive([*EVENTS, END]))


def with_costs(*points: tuple[float, float, str, bool]) -> list[dict[str, Any]]:
    """A search for fitness and flops; each evaluation as (fitness, flops, proposer, feasible)."""
    header = {**HEADER, "options": {"objective": ["fitness", "flops"]}}
    found: list[dict[str, Any]] = [header]
    for query, (fitness, flops, proposer, feasible) in enumerate(points, start=1):
        one = evaluation(query, f"a{query}", fitness, proposer, feasible)
        found.append({**one, "costs": {"flops": flops, "params": 7.0}})
    return found


def test_the_front_is_feasible_fittest_first_and_measured_from_the_first_random_ones() -> None:
    init, model = "init", "model"
    points = [(5.0, 5.0, init, True), (6.0, 9.0, init, True), (1.0, 2.0, init, False), (8.0, 7.0, model, True)]
    points += [(8.0, 7.0, model, True), (7.0, 3.0, model, True), (0.0, 1.0, model, True), (9.0, 8.0, model, False)]
    result = derive([*with_costs(*points), END])
    assert [one["arch"] for one in result["front"]] == ["a4", "a6", "a7"]
    assert result["front"][0] == {"arch": "a4", "fitness": 8.0, "costs": {"flops": 7.0, "params": 7.0}, "query": 4}
    assert result["hypervolume"] == {"value": 3 * 2 + 2 * 4, "reference": {"fitness": 5.0, "flops": 9.0}}
    assert result["best"]["arch"] == "a4" and result["protocol"]["objective"] == ["fitness", "flops"]


def test_without_random_ones_the_reference_is_the_worst_of_all() -> None:
    result = derive(with_costs((5.0, 5.0, "init", True), (1.0, 9.0, "model", True), (6.0, 7.0, "model", True)))
    assert result["hypervolume"]["reference"] == {"fitness": 1.0, "flops": 9.0}


def test_a_front_of_nothing() -> None:
    result = derive(with_costs((5.0, 5.0, "init", False)))
    assert result["front"] == [] and result["hypervolume"] == {"value": 0.0, "reference": {}}


def test_all_of_it() -> None:
    result = derive([*EVENTS, END])
    assert result["best"] == {"arch": "a", "fitness": 1.1, "report": {"test": 0.1}, "costs": {"flops": 1.5}}
    assert result["counts"] == {"attempted": 6, "valid": 5, "unique": 4, "evaluated": 4}
    assert result["counts_by_proposer"] == {
        "init": {"attempted": 1, "valid": 1, "unique": 1, "evaluated": 1},
        "model": {"attempted": 4, "valid": 3, "unique": 2, "evaluated": 2},
        "fallback": {"attempted": 1, "valid": 1, "unique": 1, "evaluated": 1},
    }
    assert [(r["query"], r["arch"], r["best_so_far"]) for r in result["history"]] == [
        (1, "a", 1.1),
        (2, "b", 1.1),
        (3, "c", 1.1),
        (4, "d", 1.1),
    ]
    assert result["history"][2]["fitness"] == 1.0 / 3, "unrounded"
    assert result["tokens"] == {"prompt": 30, "completion": 21, "thinking": 0}
    assert result["seconds"] == {"llm": 0.375, "evaluate": 1.0, "total": 9.75}
    assert (result["ended"], result["seen"], result["seed"], result["strategies"]) == ("budget", "unseen", 3, 1)
    assert result["protocol"]["sha256"] == "cd" and result["protocol"]["seeds"] == [3]
    assert result["protocol"]["optimizer"] == "collm" and result["decoding"] == "new"
    assert len(result["warnings"]) == 2
    assert json.loads(dumps(result)) == result


def test_the_standard_error_is_there_where_it_is_known() -> None:
    known = {**evaluation(1, "a", 1.1), "error": 0.25}
    result = derive([HEADER, candidate("a"), known, candidate("b"), evaluation(2, "b", 1.0), END])
    assert result["best"]["error"] == 0.25 and [row.get("error") for row in result["history"]] == [0.25, None]
    assert "error" not in derive([*EVENTS, END])["best"], "older journals do not have it"


def test_interrupted_has_no_report() -> None:
    result = derive(EVENTS)
    assert result["ended"] == "interrupted" and result["best"]["report"] == {}


def test_an_extension_is_interrupted_until_its_own_end() -> None:
    longer = {**HEADER, "budget": 9}
    assert derive([*EVENTS, END, longer])["ended"] == "interrupted"
    result = derive([*EVENTS, END, longer, {**END, "reason": "exhausted", "time": 12.0}])
    assert result["ended"] == "exhausted" and result["protocol"]["budget"] == 9


def test_nothing_feasible() -> None:
    result = derive([HEADER, candidate("b"), evaluation(1, "b", 9.0, feasible=False), {**END, "report": {}}])
    assert result["best"] is None and result["history"][0]["best_so_far"] is None


def test_nothing_at_all() -> None:
    assert derive([HEADER])["history"] == []
    with pytest.raises(UserError, match="no header"):
        derive([])
