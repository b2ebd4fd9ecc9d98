"""Searches whose evaluations are still out while more is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collm_nas import open_search, optimizers, reopen
from collm_nas.api import Architecture, UserError
from collm_nas.asktell import OpenSearch
from collm_nas.journal import read
from tests.unit.runs import SPACE, ScriptedModel, score, timeless

NAMES = ("models", *optimizers.names())


def begin(name: str, out: Path | None = None, resume: bool = False, **options: Any) -> OpenSearch:
    if name != "models" and (package := optimizers.missing(name)):
        pytest.skip(f"{package} is not installed")
    chosen: dict[str, Any] = {"model": ScriptedModel()} if name == "models" else {"optimizer": name}
    return open_search(SPACE, out=out, resume=resume, **{"budget": 36, "init": 4, **chosen, **options})


def workers(loop: OpenSearch, n: int, rng: Random) -> list[Architecture]:
    """`n` workers, each of which asks for one when it has told the one before; the order in which they are asked."""
    asked: list[Architecture] = []
    out: list[Architecture] = []
    while True:
        while len(out) < n and (fresh := loop.ask(1)):
            out += fresh
            asked += fresh
        if not out:
            return asked
        arch = out.pop(int(rng.random() * len(out)))
        loop.tell([arch], [score(arch)])


@pytest.mark.parametrize("name", NAMES)
def test_never_one_that_is_out_and_the_same_again(name: str) -> None:
    """The same order of results, the same search."""
    loop, again = begin(name, budget=16), begin(name, budget=16)
    asked = workers(loop, 6, Random(1))
    assert len(set(asked)) == len(asked) == 16 and loop.ended == "budget"
    assert workers(again, 6, Random(1)) == asked
    assert timeless(again._run.journal.events) == timeless(loop._run.journal.events)


@pytest.mark.parametrize("name", ["models", "gp", "local-search"])
def test_the_whole_space_is_asked_for_once(name: str) -> None:
    loop = begin(name, budget=100)
    assert set(workers(loop, 6, Random(1))) == set(SPACE.all())
    assert loop.ended == "exhausted" and loop.result().counts["evaluated"] == SPACE.size


@pytest.mark.parametrize("name", ["models", "gp", "local-search"])
def test_the_order_of_results_matters_and_is_kept(name: str, tmp_path: Path) -> None:
    loop = begin(name, tmp_path / "r", budget=20)
    asked = workers(loop, 5, Random(1))
    loop.close()
    assert asked != workers(begin(name, budget=20), 5, Random(2))
    longer = begin(name, tmp_path / "r", resume=True, budget=24)
    assert len({*asked, *workers(longer, 5, Random(3))}) == 24
    longer.close()


def test_what_is_proposed_by_the_models_is_masked_while_it_is_out() -> None:
    """In mode `new` nothing is proposed in vain, however much is out."""
    loop = begin("models", budget=30)
    while loop.ask(3):
        pass
    counts = loop.result()["counts_by_proposer"]["model"]
    assert len(loop.pending) == 30 and loop.room == 0
    assert counts["attempted"] == counts["unique"] == 26


def test_a_gaussian_process_spreads_what_is_out() -> None:
    """It believes what is out to bring what it expects; else its next best guess would be beside the last one."""
    loop = begin("gp", init=6, budget=20)
    first = loop.ask(6)
    loop.tell(first, [score(arch) for arch in first])
    one_by_one = [loop.ask(1)[0] for _ in range(3)]
    other = begin("gp", init=6, budget=20)
    other.tell(other.ask(6), [score(arch) for arch in first])
    assert one_by_one == other.ask(3), "a batch is filled in the same way"


@pytest.mark.parametrize("name", ["smac", "tpe"])
def test_what_is_out_still_runs_in_a_foreign_optimiser(name: str) -> None:
    """To be told that it is out is no result: the trial that proposed it waits for one."""
    loop = begin(name, init=2, budget=20)
    loop.tell(first := loop.ask(2), [score(arch) for arch in first])
    out = loop.ask(2)
    running: Any = loop._run.optimizer
    waiting = {arch: running._running[arch] for arch in out}
    loop.ask(1)
    assert {arch: running._running[arch] for arch in out} == waiting


def test_late_results_are_credited_to_their_strategy() -> None:
    loop = begin("models", init=1, budget=20)
    loop.tell(loop.ask(1), [0.0])
    early, late = loop.ask(1)[0], loop.ask(1)[0]
    coordinator: Any = loop._run.optimizer
    plan = coordinator._late[early]
    loop.tell([late], [1.0])
    loop.tell([early], [100.0])
    assert [tried.anchor for tried in coordinator._past][-1] == plan.anchors[0]
    assert coordinator._past[-1].gain > 0


# --- giving up --------------------------------------------------------------------------------------------------------


def test_what_is_given_up_frees_its_place_and_is_not_asked_again() -> None:
    loop = begin("random", budget=5)
    lost, *others = loop.ask(4)
    [last] = loop.ask(4)
    assert loop.room == 0 and loop.ask(1) == []
    loop.forget([lost])
    assert loop.room == 1 and loop.pending == [*others, last] and loop.forgotten == {lost}
    [instead] = loop.ask(3)
    assert instead not in (lost, *others, last)
    with pytest.raises(UserError, match="no room in the budget any more"):
        loop.tell([lost], [1.0])
    loop.tell([*others, last, instead], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert loop.ended == "budget" and loop.result().counts["evaluated"] == 5
    with pytest.raises(UserError, match="is not out, so it can't be given up"):
        loop.forget([instead])


def test_a_late_result_of_one_given_up_counts_where_there_is_room(tmp_path: Path) -> None:
    loop = begin("gp", tmp_path / "r", budget=8)
    lost, kept = loop.ask(2)
    loop.forget([lost])
    loop.ask(2)
    loop.tell([lost, kept], [7.0, 1.0])
    assert loop.result()["best"]["fitness"] == 7.0 and not loop.forgotten
    loop.close()
    again = begin("gp", tmp_path / "r", resume=True, budget=8)
    assert again.told(lost) is not None and len(again.pending) == 2
    again.close()


def test_the_whole_space_given_up_ends_the_search() -> None:
    loop = begin("random", budget=100)
    while archs := loop.ask(10):
        loop.forget(archs)
    assert loop.ended == "exhausted" and loop.result().best is None


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["models", "gp"])
def test_an_ask_is_recorded_whole_or_not_at_all(name: str, tmp_path: Path) -> None:
    """Killed at any byte of it, the next process asks for the same again."""
    path = tmp_path / "r" / "journal.jsonl"
    loop = begin(name, tmp_path / "r", init=2)
    loop.tell(archs := loop.ask(2), [score(arch) for arch in archs])
    before = path.stat().st_size
    asked = loop.ask(3)
    loop.close()
    whole = path.read_bytes()
    for cut in range(before + 1, len(whole) - 1, max(1, (len(whole) - before) // 12)):
        path.write_bytes(whole[:cut])
        again = begin(name, tmp_path / "r", resume=True, init=2)
        assert path.stat().st_size == before and again.pending == []
        assert again.ask(3) == asked
        again.close()


def test_an_interrupted_ask_leaves_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    class Stopped(ScriptedModel):
        def generate(self, request: Any) -> Any:
            raise KeyboardInterrupt

    loop = open_search(SPACE, model=Stopped(), init=0, budget=9, out=tmp_path / "r")
    with pytest.raises(KeyboardInterrupt):
        loop.ask(2)
    assert [e["event"] for e in read(tmp_path / "r" / "journal.jsonl")[0]] == ["header"]
    for call in (lambda: loop.ask(2), lambda: loop.tell([], [])):
        with pytest.raises(UserError, match="open its run again with resume=True"):
            call()
    loop.close()


# --- by the journal alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_telling_needs_no_optimiser(name: str, tmp_path: Path) -> None:
    """What `reopen.telling` appends is what the search itself would have: it goes on from there."""
    loop = begin(name, tmp_path / "r", budget=20)
    rng, out, lost = Random(4), loop.ask(4), 0
    for _ in range(5):
        out += loop.ask(3)
        loop.close()
        rng.shuffle(out)
        told, out = out[:2], out[2:]
        teller = reopen.telling(tmp_path / "r", 0)
        assert set(teller.pending) == {*told, *out}
        teller.tell(told, [score(arch) for arch in told])
        teller.forget(out[:1])
        lost += len(out[:1])
        del out[:1]
        teller.close()
        loop = begin(name, tmp_path / "r", resume=True, budget=20)
        assert not out or loop.ask(len(out)) == loop.pending, "asked again after a resume"
    loop.close()
    events = read(tmp_path / "r" / "journal.jsonl")[0]
    result = json.loads(json.dumps(loop.result().to_dict()))
    assert result["ended"] == "open" and len(result["pending"]) == len(out)
    assert sum(e["event"] == "forget" for e in events) == lost > 0


def test_a_run_that_evaluates_by_itself_is_refused(tmp_path: Path) -> None:
    from collm_nas import search

    search(SPACE, score, optimizer="random", budget=3, out=tmp_path / "r")
    with pytest.raises(UserError, match=r"evaluates by itself \(function\); it goes on by `collm-nas search --out"):
        reopen.telling(tmp_path / "r", 0)
    with pytest.raises(UserError, match=r"holds no journal\.jsonl"):
        reopen.telling(tmp_path / "nowhere", 0)
