"""A family of caps on one pool of evaluations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import collm_nas
from collm_nas import search
from collm_nas.api import Architecture, UserError
from collm_nas.cli.summary import show_family
from collm_nas.evaluators import table
from collm_nas.family import Family, member_name, search_family
from tests.unit.runs import SPACE, ScriptedModel, score

CAPS = [60.0, 11.5, 31.0]  # what is within the second costs 10, 11 or 12; the third allows a = 1, the first all
NAMES = ["max-flops-11.5", "max-flops-31", "max-flops-60"]
CALLS: list[Architecture] = []


def counted(arch: Architecture) -> float:
    CALLS.append(arch)
    return score(arch)


def go(out: Path | None, caps: list[float] = CAPS, optimizer: str = "local-search", **options: Any) -> Family:
    CALLS.clear()
    models: dict[str, Any] = {"model": ScriptedModel()} if optimizer == "collm" else {}
    given = {"budget": 8, "init": 4, "out": out, **models, **options}
    return search_family(SPACE, counted, "flops", caps, optimizer=optimizer, **given)


def pool(family: Family) -> dict[str, float]:
    return {row["arch"]: row["fitness"] for result in family.members.values() for row in result.history}


@pytest.mark.parametrize("optimizer", ["random", "local-search", "collm"])
def test_each_is_the_best_of_the_whole_pool_within_its_cap(tmp_path: Path, optimizer: str) -> None:
    family = go(tmp_path, optimizer=optimizer, seed=2)
    known = pool(family)
    assert list(family.members) == sorted(CAPS) and len(CALLS) == len(set(CALLS)) == len(known) == 24
    for cap, result in family.members.items():
        within = {arch: value for arch, value in known.items() if SPACE.cost(SPACE.parse(arch))["flops"] <= cap}
        best = max(within.values())
        assert result.best is not None and result.best["fitness"] == best == known[result.best["arch"]]
        assert result.counts["evaluated"] == len(result.history) == 8, "the budget is each member's"
    assert [result["reused"] for result in family.members.values()] == [16, 16, 16]


def test_what_a_later_member_finds_is_taken_over(tmp_path: Path) -> None:
    """Found under the larger cap, best within the smaller one: the smaller one's run can be exported as it is."""
    family = go(tmp_path, [11.5, 60.0], optimizer="random", budget=2, init=2)
    row = family.data["members"][0]
    assert (row["found"], row["best"]["arch"]) == ("max-flops-60", "0 1 3")
    assert row["best"]["run"] == str(tmp_path / "max-flops-60")
    assert "0 1 3" not in {row["arch"] for row in family.members[11.5].history}
    held = json.loads((tmp_path / "max-flops-11.5" / "result.json").read_text())
    assert held["best"] == row["best"] and held["ended"] == "budget" and len(held["history"]) == 2


def test_the_folder(tmp_path: Path) -> None:
    family = go(tmp_path / "f")
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["family.json", *NAMES]
    assert json.loads((tmp_path / "f" / "family.json").read_text()) == family.data
    assert [m["run"] for m in family.data["members"]] == NAMES and family.data["evaluated"] == 24
    for cap, name in zip(sorted(CAPS), NAMES, strict=True):
        held = json.loads((tmp_path / "f" / name / "result.json").read_text())
        assert held == family.members[cap].to_dict() and held["protocol"]["caps"] == {"flops": cap}
    assert collm_nas.search_family is search_family


def test_nothing_is_left_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    family = go(None)
    assert family.path is None and all(result.path is None for result in family.members.values())
    assert not list(tmp_path.iterdir())
    assert [m["best"]["arch"] for m in family.data["members"]] == [
        m["best"]["arch"] for m in go(tmp_path).data["members"]
    ]


def test_a_finished_family_is_not_touched(tmp_path: Path) -> None:
    first = go(tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    again = go(tmp_path, resume=True)
    assert again.data == first.data and not CALLS
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == before


def test_killed_anywhere(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")
    lines = {name: (tmp_path / "whole" / name / "journal.jsonl").read_bytes().splitlines(True) for name in NAMES}
    ends = {name: next(i for i, line in enumerate(lines[name]) if b'"event": "end"' in line) for name in NAMES}
    for i, name in enumerate(NAMES):
        for n in range(1, ends[name] + 2, 4):
            out = tmp_path / "killed"
            for other in NAMES[: i + 1]:  # those before it had ended, and heard of nothing later yet
                (out / other).mkdir(parents=True)
                kept = n if other == name else ends[other] + 1
                (out / other / "journal.jsonl").write_bytes(
                    b"".join(lines[other][:kept]).replace(b"/whole/", b"/killed/")
                )
            again = go(out, resume=True)
            assert [m["best"]["arch"] for m in again.data["members"]] == [
                m["best"]["arch"] for m in whole.data["members"]
            ]
            assert pool(again) == pool(whole)
            shutil.rmtree(out)


def test_a_family_grows(tmp_path: Path) -> None:
    go(tmp_path)
    longer = go(tmp_path, resume=True, budget=10)
    assert len(pool(longer)) == sum(r.counts["evaluated"] for r in longer.members.values()) == len(CALLS) + 24
    more = go(tmp_path, [*CAPS, 32.0], resume=True, budget=10)
    assert list(more.members) == [11.5, 31.0, 32.0, 60.0] and len(pool(more)) == more.data["evaluated"]
    known = pool(more)
    assert all(r.best is not None and r.best["arch"] in known for r in more.members.values())


def test_an_earlier_family_is_reused(tmp_path: Path) -> None:
    first = go(tmp_path / "a")
    known = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    result = search(SPACE, counted, optimizer="random", budget=3, seed=9, reuse=tmp_path / "a")
    assert result["reused"] == 24 and len(result.history) == 3
    second = go(tmp_path / "b", reuse=[tmp_path / "a"], seed=9, budget=4)
    for result in second.members.values():
        assert result["reused"] + result.counts["evaluated"] == 24 + second.data["evaluated"]
    assert not set(pool(second)) & set(pool(first))
    assert {path: path.read_bytes() for path in known} == known


def test_report_columns_of_each_winner(tmp_path: Path) -> None:
    rows = [f"{a} {b} {c},{a * 10 + b},{c}" for a in range(3) for b in range(3) for c in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["arch,valid,test", *rows]) + "\n")
    evaluator = table.load(SPACE, tmp_path / "t.csv", "valid", ["test"])
    family = search_family(SPACE, evaluator, "flops", [31, 60], optimizer="random", budget=9)
    for result in family.members.values():
        assert result.best is not None and result.best["report"] == {"test": int(result.best["arch"][-1])}


def test_the_table_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_family(go(tmp_path))
    out = capsys.readouterr().out
    for shown in ("max-flops-11.5", "max-flops-60: 2 1 3", "22.11", "reports "):
        assert shown in out


def test_names_of_members() -> None:
    caps = [2e8, 199.7e6, 1.5e9, 1234.0, 8.25, 0.5, 123456789.0, 7000.5]
    names = [member_name("flops", cap).removeprefix("max-flops-") for cap in caps]
    assert names == ["200M", "199.7M", "1.5G", "1.234k", "8.25", "0.5", "123456789.0", "7.0005k"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"cost": "flop"}, "search_family: 'flop' is no cost; legal: flops, params, latency"),
    ({"caps": [30.0, -1.0]}, "--max-flops must be a finite number above zero, but is -1.0"),
    ({"caps": [30.0, 30.0]}, "--max-flops needs one or several different caps"),
    ({"caps": []}, "--max-flops needs one or several different caps"),
    ({"caps": [30.0, 9.0]}, "--max-flops 9 is below the cheapest architecture"),
    ({"max_flops": 3.0}, "leave max_flops out"),
    ({"cost": "latency"}, "--max-latency: neither the space"),
    ({"budget": 0}, "--budget"),
    ({"optimizer": "randm"}, "--optimizer"),
    ({"resume": True, "out": None}, "--resume needs --out"),
    ({"reuse": "nowhere"}, "--reuse nowhere"),
    ({"workers": "somewhere"}, "--workers must be"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_options(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    given = {"cost": "flops", "caps": [30.0, 60.0], "optimizer": "random", "out": tmp_path / "f", **options}
    with pytest.raises(UserError) as error:
        search_family(SPACE, counted, given.pop("cost"), given.pop("caps"), **given)
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "f").exists()


def test_folders_that_are_no_family(tmp_path: Path) -> None:
    go(tmp_path / "f")
    search(SPACE, counted, optimizer="random", budget=3, out=tmp_path / "r")
    with pytest.raises(UserError, match="is not empty; add --resume"):
        go(tmp_path / "f")
    with pytest.raises(UserError, match=r"holds 'max-flops-11.5', which is none of the runs of this family"):
        go(tmp_path / "f", [31.0, 60.0], resume=True)
    with pytest.raises(UserError, match=r"holds 'journal.jsonl', which is none"):
        go(tmp_path / "r", resume=True)
    with pytest.raises(UserError, match=r"holds 'family.json' but no journal.jsonl"):
        search(SPACE, counted, optimizer="random", out=tmp_path / "f", resume=True)
    with pytest.raises(UserError, match="--batch: the run in"):
        go(tmp_path / "f", resume=True, batch=3)
    with pytest.raises(
        UserError, match=r"--max-flops takes one number here, but is \[30, 60\]; collm_nas.search_family"
    ):
        search(SPACE, counted, max_flops=[30, 60])  # type: ignore[arg-type]
