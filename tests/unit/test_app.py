from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any, get_type_hints

import pytest

import collm_nas
from collm_nas import open_search, rundir, search
from collm_nas.api import Architecture, UserError
from collm_nas.app import seen
from collm_nas.evaluators import table
from collm_nas.journal import read
from collm_nas.settings import Options, Settings
from collm_nas.spaces.base import CategoricalSpace
from tests.unit.runs import SPACE, ScriptedModel, score, timeless

BASELINES = ("random", "local-search")


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


def test_the_package_is_lazy_and_typed() -> None:
    assert collm_nas.spaces.names() and "search" in dir(collm_nas)
    assert collm_nas.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = collm_nas.serach


def test_a_function_is_searched() -> None:
    result = search(SPACE, score, optimizer="local-search", budget=36)
    assert result.best == {
        "arch": "2 1 3",
        "fitness": score(SPACE.parse("2 1 3")),
        "report": {},
        "costs": {"flops": 51.0},
    }
    assert result["counts"] == result.counts and result.counts["evaluated"] == len(result.history) == 36
    assert result.ended == "budget" and result["seen"] == "n/a" and result.path is None
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_nothing_on_disk_without_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search(SPACE, score, optimizer="random", budget=3)
    assert not list(tmp_path.iterdir())


def test_the_run_folder(tmp_path: Path) -> None:
    out = tmp_path / "a" / "run"
    result = search(SPACE, score, optimizer="random", budget=12, out=out)
    assert sorted(files(out)) == ["journal.jsonl", "report.html", "result.json"]
    assert json.loads((out / "result.json").read_text()) == result.to_dict()
    assert "://" not in (out / "report.html").read_text()
    before = files(out)
    for name in ("result.json", "report.html"):
        (out / name).unlink()
    rundir.write(out)
    assert files(out) == before, "bit for bit from the journal"


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = search(SPACE, score, optimizer="random", budget=12, out=tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    def forbidden(arch: Architecture) -> float:
        raise AssertionError("evaluated again")

    forbidden.__module__, forbidden.__qualname__ = score.__module__, score.__qualname__
    again = search(SPACE, forbidden, optimizer="random", budget=12, out=tmp_path, resume=True)
    assert again.to_dict() == first.to_dict()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_resuming_with_a_larger_budget_extends(tmp_path: Path) -> None:
    search(SPACE, score, optimizer="local-search", budget=15, out=tmp_path)
    longer = search(SPACE, score, optimizer="local-search", budget=30, out=tmp_path, resume=True)
    assert longer.history == search(SPACE, score, optimizer="local-search", budget=30).history
    with pytest.raises(UserError, match="--budget 15 is below the 30"):
        search(SPACE, score, optimizer="local-search", budget=15, out=tmp_path, resume=True)


@pytest.mark.parametrize("held", [b"", b'{"event": "hea'])
def test_killed_before_the_header(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(held)
    result = search(SPACE, score, optimizer="random", budget=5, out=tmp_path, resume=True)
    assert result.counts["evaluated"] == 5


def test_resume_of_what_never_began(tmp_path: Path) -> None:
    """Killed before the folder was made: the same command with --resume must end like an unbroken one."""
    assert search(SPACE, score, optimizer="random", budget=5, out=tmp_path / "run", resume=True).ended == "budget"


TWO: Any = {"objective": ["flops", "fitness"]}


def front_of_the_space() -> list[str]:
    found: list[str] = []
    for arch in sorted(SPACE.all(), key=lambda a: (SPACE.cost(a)["flops"], -score(a))):
        if not found or score(arch) > score(SPACE.parse(found[-1])):
            found.append(SPACE.format(arch))
    return found[::-1]


@pytest.mark.parametrize("optimizer", ["nsga2", "local-search", "collm"])
def test_a_front_is_found_and_derived_again_from_the_journal(tmp_path: Path, optimizer: str) -> None:
    model: Any = {"model": ScriptedModel()} if optimizer == "collm" else {}
    result = search(SPACE, score, optimizer=optimizer, budget=36, batch=4, out=tmp_path, **model, **TWO)
    assert [one["arch"] for one in result["front"]] == front_of_the_space()
    assert result["hypervolume"]["value"] > 0 and result.best == {
        **{key: value for key, value in result["front"][0].items() if key != "query"},
        "report": {},
    }
    before = files(tmp_path)
    assert b"The front" in before["report.html"]
    for name in ("result.json", "report.html"):
        (tmp_path / name).unlink()
    rundir.write(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("optimizer", ["nsga2", "gp", "collm"])
def test_a_killed_search_for_a_front_goes_on_as_if_it_had_not_been(tmp_path: Path, optimizer: str) -> None:
    def run(folder: Path, objective: Any = TWO["objective"], **more: Any) -> Any:
        model: Any = {"model": ScriptedModel()} if optimizer == "collm" else {}
        given: Any = {"optimizer": optimizer, "budget": 24, "batch": 4, "objective": objective, **model, **more}
        return search(SPACE, score, out=folder, **given)

    whole = run(tmp_path / "whole")
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "journal.jsonl").write_bytes(b"".join(lines[: len(lines) * 2 // 3]))
    again = run(tmp_path / "part", resume=True)
    assert again["front"] == whole["front"] and again.history == whole.history
    with pytest.raises(UserError, match=r"--objective: the run in .* was begun with .'fitness', 'flops'., not none"):
        run(tmp_path / "part", "fitness", resume=True)


def test_fitness_named_alone_is_the_search_as_it_was() -> None:
    plain = search(SPACE, score, optimizer="gp", budget=20).to_dict()
    named = search(SPACE, score, optimizer="gp", budget=20, objective="fitness").to_dict()
    assert {**plain, "seconds": 0} == {**named, "seconds": 0}


def test_a_race_has_one_objective() -> None:
    class Racing:
        bounded = True

        def evaluate(self, archs: Any) -> Any:
            raise AssertionError("nothing is evaluated")

        costs = report = lambda self, arch: {}
        protocol = lambda self: {}  # noqa: E731

    with pytest.raises(UserError, match="--race stops early on what cannot have the best fitness"):
        search(SPACE, Racing(), optimizer="random", budget=9, **TWO)


def test_the_options_are_those_of_settings() -> None:
    assert get_type_hints(Options) == get_type_hints(Settings)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"budget": 0}, "--budget must be a whole number of at least 1, but is 0"),
    ({"budget": -5}, "--budget"),
    ({"batch": 0}, "--batch"),
    ({"init": -1}, "--init"),
    ({"init": 11, "budget": 10}, "--init 11 is more than --budget 10"),
    ({"seed": -1}, "--seed"),
    ({"decoding": "magic"}, "--decoding 'magic' is unknown; legal: free, json, legal, affordable, new"),
    ({"sampling": "greedy"}, "--sampling"),
    ({"encoding": "morse"}, "--encoding 'morse'"),
    ({"optimizer": "randm"}, "did you mean 'random'"),
    ({"over_cap": "ignore"}, "--over-cap"),
    ({"target": math.nan}, "--target"),
    ({"max_hours": 0}, "--max-hours"),
    ({"temperature": -1.0}, "--temperature"),
    ({"max_flops": math.inf}, "--max-flops"),
    ({"objective": ["flops"]}, "--objective flops leaves out fitness"),
    ({"objective": ["fitness", "params"]}, "--objective params: neither the space 'tiny' nor the table knows"),
    (
        {"objective": ["fitness", "flops"], "optimizer": "collm", "preset": "paper", "model": "x"},
        "--preset paper tells",
    ),
    ({"max_flops": 9.0}, "--max-flops 9 is below the cheapest architecture, which has flops 10"),
    ({"max_latency": 5.0}, "--max-latency: neither the space 'tiny' nor the table knows"),
    ({"start_from": ["9 9 9"]}, "variable 'a'"),
    ({"start_from": "nowhere.txt"}, "--start-from: cannot read nowhere.txt"),
    ({"model": "somewhere"}, "--model is for --optimizer collm"),
    ({"optimizer": "collm", "model": "nowhere"}, "model folder nowhere does not exist"),
    ({"bugdet": 3}, "search has no option 'bugdet'"),
    ({"resume": True, "out": None}, "--resume needs --out"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_options(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError) as error:
        search(SPACE, score, **{"optimizer": "random", "out": out, **options})
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert not out.exists()


def test_caps_that_exclude_each_other(tmp_path: Path) -> None:
    lines = ["arch,fitness,params"] + [
        f"{a} {b} {c},{a},{100 * (2 - a)}" for a in range(3) for b in range(3) for c in range(4)
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    evaluator = table.load(SPACE, tmp_path / "t.csv", "fitness")
    with pytest.raises(UserError, match="no architecture meets --max-flops 20 and --max-params 50"):
        search(SPACE, evaluator, optimizer="random", max_flops=20.0, max_params=50.0)
    result = search(SPACE, evaluator, optimizer="random", max_params=100.0, budget=5)
    assert all(row["arch"][0] != "0" for row in result.history), "the table's own costs count"


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"batch": 6}, "--batch"),
    ({"init": 9}, "--init"),
    ({"seed": 1}, "--seed"),
    ({"optimizer": "local-search"}, "--optimizer"),
    ({"max_flops": 30.0}, "--max-flops"),
    ({"over_cap": "evaluate"}, "--over-cap"),
    ({"target": 3.0}, "--target"),
    ({"max_hours": 3.0}, "--max-hours"),
    ({"start_from": ["0 0 0"]}, "--start-from"),
]


def test_a_changed_option_is_named(tmp_path: Path) -> None:
    search(SPACE, score, optimizer="random", budget=12, out=tmp_path)
    before = files(tmp_path)
    for change, option in CHANGES:
        with pytest.raises(UserError) as error:
            search(SPACE, score, **{"optimizer": "random", "budget": 12, "out": tmp_path, "resume": True, **change})
        assert str(error.value).startswith(option) and "was begun with" in str(error.value)
    with pytest.raises(UserError, match="the evaluator: the run in"):
        search(SPACE, lambda arch: 0.0, optimizer="random", budget=12, out=tmp_path, resume=True)
    with pytest.raises(UserError, match=r"--space: the run in .* was begun with 'tiny', not 'digits-cells'"):
        search("digits-cells", score, optimizer="random", budget=12, out=tmp_path, resume=True)
    assert files(tmp_path) == before


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; add --resume"):
        search(SPACE, score, optimizer="random", out=tmp_path)
    with pytest.raises(UserError, match=r"holds 'notes.txt' but no journal.jsonl"):
        search(SPACE, score, optimizer="random", out=tmp_path, resume=True)
    with pytest.raises(UserError, match="is a file; give a folder"):
        search(SPACE, score, optimizer="random", out=tmp_path / "notes.txt")
    with pytest.raises(UserError, match="cannot be written"):
        search(SPACE, score, optimizer="random", out=tmp_path / "notes.txt" / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_seen_is_told_by_hash() -> None:
    trained = {"sources": {"old": "aa", "older": "bb"}}
    assert seen(trained, {"sha256": "bb"}) == "seen"
    assert seen(trained, {"sha256": "cc", "source_hashes": ["aa"]}) == "seen"
    assert seen(trained, {"sha256": "cc", "source_hashes": ["cc"]}) == "unseen"
    assert seen({"sources": {}}, {"sha256": None}) == "unseen"


# --- the language models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", ["free", "new"])
def test_a_model_is_searched_with(decoding: str, tmp_path: Path) -> None:
    result = search(SPACE, score, model=ScriptedModel(), decoding=decoding, budget=30, out=tmp_path)
    counts = result["counts_by_proposer"]["model"]
    assert result.counts["evaluated"] == 30 and result["strategies"] >= 4 and result["tokens"]["completion"] > 0
    if decoding == "new":
        assert len(set(counts.values())) == 1 and counts["evaluated"] == 20
    else:
        assert counts["attempted"] > counts["valid"] > counts["unique"] >= counts["evaluated"]
    assert result["seen"] == "unseen" and result["decoding"] == decoding
    assert result["protocol"]["model"]["engine"] == "scripted"


@pytest.mark.parametrize("decoding", ["free", "new"])
def test_killed_while_models_search(decoding: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"decoding": decoding, "budget": 9, "init": 3, "batch": 3}
    search(SPACE, score, model=ScriptedModel(), out=tmp_path / "whole", **options)
    whole = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    for n in range(1, len(whole) + 1):
        (tmp_path / "killed" / "journal.jsonl").write_bytes(b"".join(whole[:n]) + b'{"torn')
        model = ScriptedModel()
        search(SPACE, score, model=model, out=tmp_path / "killed", resume=True, **options)
        events = read(tmp_path / "killed" / "journal.jsonl")[0]
        assert timeless(events) == timeless([json.loads(line) for line in whole]), f"killed after line {n}"
        assert model.calls == sum(b'{"event": "completion"' in line for line in whole[n:])


def test_a_search_with_models_is_extended(tmp_path: Path) -> None:
    search(SPACE, score, model=ScriptedModel(), budget=15, out=tmp_path)
    result = search(SPACE, score, model=ScriptedModel(), budget=25, out=tmp_path, resume=True)
    assert result.history == search(SPACE, score, model=ScriptedModel(), budget=25).history
    with pytest.raises(UserError, match=r"--decoding: the run in .* was begun with 'new', not 'legal'"):
        search(SPACE, score, model=ScriptedModel(), budget=25, out=tmp_path, resume=True, decoding="legal")


def test_a_model_runs_out_of_architectures() -> None:
    result = search(SPACE, score, model=ScriptedModel(), budget=100)
    assert result.ended == "exhausted" and result.counts["evaluated"] == 36


def test_a_model_under_a_cap() -> None:
    result = search(SPACE, score, model=ScriptedModel(), budget=12, max_flops=12)
    assert result.counts["evaluated"] == 12 and all(row["arch"][0] == "0" for row in result.history)


def test_a_model_under_a_cap_that_only_a_part_table_knows(tmp_path: Path) -> None:
    """The costs of a table's column exist for its rows alone, so nothing may ask for those of other architectures."""
    rows = [f"{a} {b} 0,{a + b},{100 + a}" for a in range(3) for b in range(3)]
    (tmp_path / "part.csv").write_text("\n".join(["arch,fitness,params", *rows]) + "\n")
    space = CategoricalSpace("plain", SPACE.variables)
    evaluator = table.load(space, tmp_path / "part.csv", "fitness")
    result = search(space, evaluator, model=ScriptedModel(), budget=6, init=2, max_params=101)
    assert result.counts["evaluated"] == 6 and result["best"]["arch"] == "1 2 0"


def test_open_search_with_models() -> None:
    loop = open_search(SPACE, model=ScriptedModel(), budget=20)
    drive(loop, Random(6))
    assert loop.result().ended == "budget" and loop.result()["counts_by_proposer"]["model"]["evaluated"] == 10


# --- ask and tell -----------------------------------------------------------------------------------------------------


def drive(loop: Any, rng: Random, stop: int = 10_000) -> None:
    """Ask for varying numbers, tell in shuffled order and in parts."""
    waiting: list[Architecture] = []
    for _ in range(stop):
        archs = loop.ask(1 + int(rng.random() * 6))
        waiting += archs
        if not archs and not waiting:
            return
        rng.shuffle(waiting)
        told = waiting[: 1 + int(rng.random() * len(waiting))]
        waiting = waiting[len(told) :]
        loop.tell(told, [score(arch) for arch in told])


@pytest.mark.parametrize("name", BASELINES)
def test_open_search_ends_with_its_budget(name: str) -> None:
    loop = open_search(SPACE, optimizer=name, budget=20)
    drive(loop, Random(1))
    result = loop.result()
    assert result.ended == "budget" and result.counts["evaluated"] == 20
    assert result.best is not None and result.best["fitness"] == max(row["fitness"] for row in result.history)


def test_open_search_keeps_standard_errors(tmp_path: Path) -> None:
    loop = open_search(SPACE, optimizer="random", budget=2, out=tmp_path)
    loop.tell(archs := loop.ask(2), [{"fitness": score(archs[0]), "error": 0.5}, score(archs[1])])
    loop.close()
    again = open_search(SPACE, optimizer="random", budget=2, out=tmp_path, resume=True)
    assert [row.get("error") for row in again.result().history] == [0.5, None]
    again.close()


def test_open_search_exhausts_the_space() -> None:
    loop = open_search(SPACE, optimizer="random", budget=100)
    drive(loop, Random(2))
    assert loop.result().ended == "exhausted" and loop.result().counts["evaluated"] == 36


def test_open_search_equals_search() -> None:
    loop = open_search(SPACE, optimizer="local-search", budget=30, init=10)
    archs = loop.ask(10)
    while archs:
        loop.tell(archs, [{"fitness": score(arch)} for arch in archs])
        archs = loop.ask(5)
    assert loop.result().history == search(SPACE, score, optimizer="local-search", budget=30).history


def test_open_search_refuses_what_it_did_not_ask_for() -> None:
    loop = open_search(SPACE, optimizer="random", budget=20)
    archs = loop.ask(3)
    other = next(arch for arch in SPACE.all() if arch not in archs)
    for wrong, values, sentence in [
        ([other], [1.0], "is not one that was asked for"),
        (["9 9 9"], [1.0], "variable 'a'"),
        (archs, [1.0], "one value an architecture, but got 3 and 1"),
        ([archs[0], archs[0]], [1.0, 2.0], "is not one that was asked for"),
        (archs, [1.0, "much", 2.0], "a finite number"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            loop.tell(wrong, values)
    assert loop.result().counts["evaluated"] == 0
    loop.tell([SPACE.format(archs[2])], [1.0])
    with pytest.raises(ValueError, match="not yet told"):
        loop.tell([archs[2]], [1.0])
    with pytest.raises(ValueError, match="at least 1"):
        loop.ask(0)


def test_open_search_keeps_caps_and_target() -> None:
    loop = open_search(SPACE, optimizer="random", budget=20, max_flops=12, target=2.0)
    drive(loop, Random(3))
    assert loop.result().ended == "target"
    assert all(row["arch"][0] == "0" for row in loop.result().history)


@pytest.mark.parametrize("name", BASELINES)
def test_open_search_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    loop = open_search(SPACE, optimizer=name, budget=20, out=tmp_path / "run")
    loop.tell(archs := loop.ask(4), [score(arch) for arch in archs])
    open_ones = loop.ask(3)
    loop.tell(open_ones[1:2], [score(open_ones[1])])
    recorded = timeless(loop._run.journal.events)
    loop.close()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    again = open_search(SPACE, optimizer=name, budget=20, out=tmp_path / "run", resume=True)
    assert timeless(again._run.journal.events) == recorded
    assert again.ask(5) == [open_ones[0], open_ones[2]], "what was asked and not told comes first"
    again.tell([open_ones[0], open_ones[2]], [0.0, 1.0])
    drive(again, Random(4))
    assert again.result().counts["evaluated"] == 20 and again.result().ended == "budget"
    again.close()
    longer = open_search(SPACE, optimizer=name, budget=25, out=tmp_path / "run", resume=True)
    drive(longer, Random(5))
    assert longer.result().counts["evaluated"] == 25
    longer.close()
