from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collm_nas import optimizers
from collm_nas.api import UserError, Variable
from collm_nas.spaces.base import CategoricalSpace
from eval import bench, command, fronts, plan, summary
from eval.bench import Protocol
from eval.problems import ProblemSpec, load
from eval.relabel import RelabelledSpace, relabel, reorder
from eval.rows import Row, default_rows, left_out, parse_row
from eval.stacked import WIDTH

LANDSCAPES = ProblemSpec(kind="landscapes", variables=5)
SMALL = Protocol(problem=LANDSCAPES, budget=25, init=5, batch=5, seeds=3)
ROWS = [parse_row(row) for row in ("random", "local-search", "aging-evolution:population=10:tournament=3")]


def without_times(records: list[bench.Record]) -> list[bench.Record]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def searched(protocol: Protocol, rows: Sequence[Row], journal: Path, **how: Any) -> list[bench.Record]:
    return bench.run_jobs([bench.Job(protocol, row, s) for s in range(protocol.seeds) for row in rows], journal, **how)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[bench.Record]:
    return searched(SMALL, ROWS, tmp_path_factory.mktemp("bench") / "searches.jsonl")


def test_all_rows_of_a_seed_begin_alike_and_keep_the_budget(records: list[bench.Record]) -> None:
    assert [(r["seed"], r["row"]) for r in records] == [(seed, row.label) for seed in range(3) for row in ROWS]
    for seed in range(3):
        own = [record for record in records if record["seed"] == seed]
        assert len({tuple(record["curve"][:5]) for record in own}) == 1
    assert all(record["by_proposer"]["init"] == 5 and len(record["curve"]) == 25 for record in records)
    assert all(record["regret"] >= -1e-9 for record in records)
    assert all(record["found"] == (record["regret"] <= 1e-9) for record in records)


def test_other_processes_find_the_same(records: list[bench.Record], tmp_path: Path) -> None:
    again = searched(SMALL, ROWS[:2], tmp_path / "searches.jsonl", processes=2)
    assert without_times(again) == without_times([r for r in records if not r["row"].startswith("aging")])


def test_a_killed_bench_goes_on_where_it_stopped(records: list[bench.Record], tmp_path: Path) -> None:
    journal = tmp_path / "searches.jsonl"
    lines = [json.dumps(record) for record in records]
    journal.write_text("\n".join(lines[:4]) + "\n" + lines[4][:50])
    calls: list[tuple[int, int]] = []
    again = searched(SMALL, ROWS, journal, progress=lambda done, total: calls.append((done, total)))
    assert without_times(again) == without_times(records)
    assert calls == [(done, 9) for done in range(5, 10)]
    assert len(journal.read_text().splitlines()) == 9
    searched(SMALL, ROWS, journal, progress=lambda *_: pytest.fail("nothing was left to run"))
    more = Protocol(problem=LANDSCAPES, budget=26, init=5, batch=5, seeds=1)
    assert len(searched(more, ROWS[:1], journal)) == 1
    assert len(journal.read_text().splitlines()) == 10, "another protocol is another search"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    journal = tmp_path / "searches.jsonl"
    journal.write_text('{"key": "a"}\n{"key": \n{"key": "b"}\n')
    with pytest.raises(UserError, match="line 2"):
        searched(SMALL, ROWS, journal)


def spaces() -> list[CategoricalSpace]:
    on = ((0, frozenset({1, 2})),)
    whole = CategoricalSpace("s", [Variable("d", ("1", "2", "3")), Variable("k", ("3", "5", "7"), on)])
    return [whole, whole.restrict(list(whole.all())[::2])]


@pytest.mark.parametrize("space", spaces(), ids=["conditional", "restricted"])
def test_relabelling_is_one_to_one_and_keeps_names(space: CategoricalSpace) -> None:
    moved = relabel(space, 1)
    assert any(order != tuple(sorted(order)) for order in moved.order)
    archs = list(moved.all())
    assert len(set(archs)) == space.size == moved.size
    assert {moved.to_original(arch) for arch in archs} == set(space.all())
    for arch in archs:
        original = moved.to_original(arch)
        assert moved.from_original(original) == arch
        for i, on in enumerate(moved.active(arch.choices)):
            assert on == space.active(original.choices)[i]
            if on:
                meant = space.variables[i].choices[original.choices[i]]
                assert moved.variables[i].choices[arch.choices[i]] == meant


@pytest.mark.parametrize("space", spaces(), ids=["conditional", "restricted"])
@pytest.mark.parametrize("seed", range(4))
def test_reordering_keeps_parents_first_and_everything_else(space: CategoricalSpace, seed: int) -> None:
    free = CategoricalSpace("s", [*space.variables, Variable("e", ("1", "2"))])
    space = space if space.restricted else free
    moved = reorder(space, seed)
    assert isinstance(moved, RelabelledSpace) and moved.size == space.size
    places = [v.name for v in moved.variables]
    assert places.index("d") < places.index("k")
    for arch in moved.all():
        original = moved.to_original(arch)
        assert moved.from_original(original) == arch
        assert moved.parse(moved.format(arch)) == arch
    if not space.restricted:
        assert {tuple(reorder(space, seed).places) for seed in range(9)} == {(0, 1, 2), (0, 2, 1), (2, 0, 1)}


def test_relabelled_searches_meet_the_same_problem() -> None:
    plain, moved = load(LANDSCAPES, 2), load(ProblemSpec(kind="landscapes", variables=5, relabel=True), 2)
    starts, translated = plain.starts(8, 2), moved.starts(8, 2)
    assert [a.choices for a in starts] != [a.choices for a in translated]
    values = [[e.fitness for e in i.evaluator.evaluate(s)] for i, s in ((plain, starts), (moved, translated))]
    assert values[0] == values[1]
    assert moved.evaluator.protocol()["relabelled"]


def test_caps_of_landscapes_hold_for_every_search() -> None:
    seed = next(seed for seed in range(40) if load(LANDSCAPES, seed).caps.limits)
    instance = load(LANDSCAPES, seed)
    assert all(instance.caps.allow(instance.costs(arch)) for arch in instance.starts(10, seed))
    rng = random.Random(0)
    assert not all(instance.caps.allow(instance.costs(instance.space.sample(rng))) for _ in range(100))
    record = bench.search(bench.Job(SMALL, ROWS[1], seed))
    assert record["counts"]["attempted"] == record["counts"]["evaluated"], "an over-cap candidate was proposed"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("randon", "'randon' is unknown; legal: collm, "),
        ("gp:fast", "'fast' in 'gp:fast' is no option"),
        ("gp:fast=1", "'gp' has no option 'fast'; legal: none"),
        ("collm:heat=1", "legal: model, temperature"),
    ],
)
def test_a_wrong_row_is_named(row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_row(row)


def test_options_of_the_model_row() -> None:
    row = parse_row("collm:temperature=1.5", {"temperature": 0.7, "decoding": "legal", "model": None})
    assert dict(row.options) == {"temperature": 1.5, "decoding": "legal"}


def arguments(*args: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(args)


def table(folder: Path) -> list[str]:
    """A table of 9 architectures whose best is `b z` by valid."""
    (folder / "s.yaml").write_text(
        "name: s\nvariables:\n  - {name: u, choices: [a, b, c]}\n  - {name: w, choices: [x, y, z]}\n"
    )
    with (folder / "t.csv").open("w") as file:
        file.write("arch,valid,test,flops\n")
        for i, u in enumerate("abc"):
            for j, w in enumerate("xyz"):
                file.write(f"{u} {w},{50 + 10 * (u == 'b') + j},{40 + j},{100 * (i + 1)}\n")
    return [
        "--problem",
        "table",
        "--space",
        str(folder / "s.yaml"),
        "--table",
        str(folder / "t.csv"),
        "--report",
        "test",
    ]


def test_the_command_prints_and_writes_the_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = [*table(tmp_path), "--fitness", "valid", "--budget", "9", "--init", "2", "--seeds", "2"]
    out = ["--rows", "random,local-search", "--processes", "1", "--out", str(tmp_path / "out")]
    assert command.run(arguments(*problem, *out)) == 0
    shown = capsys.readouterr().out
    printed = " ".join(shown.split())
    assert "100 %" in printed and "seeds 0..1" in printed and "minus random" in printed
    assert all(len(line) <= WIDTH for line in shown.splitlines() if not line.startswith(str(tmp_path)))
    said = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert said["protocol"]["fitness"] == "valid" and len(said["protocol"]["sha256"]) == 64
    rows = list(csv.DictReader((tmp_path / "out" / "bench.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == ["random", "local-search"] * 2
    assert all((float(row["final"]), float(row["report_test"]), row["found"]) == (62, 42, "True") for row in rows)
    assert all(float(row["area"]) >= 0 and row["tokens_prompt"] == "0" for row in rows)
    assert all(float(row["seconds_evaluate"]) <= float(row["seconds_total"]) for row in rows)


def made_record(row: str, seed: int, curve: list[float | None], spent: int) -> bench.Record:
    """A search on a problem of best 10 and typical 0."""
    return {
        "row": row, "seed": seed, "seen": None, "curve": curve, "best": 10.0, "typical": 0.0, "final": curve[-1],
        "regret": 10.0 - (curve[-1] or 0), "normalised_regret": 1 - (curve[-1] or 0) / 10, "found": curve[-1] == 10.0,
        "queries": 2 if curve[-1] == 10.0 else None, "report": {}, "by_proposer": {},
        "tokens": {"prompt": 3 * spent, "completion": spent},
        "seconds": {"llm": 0.5 * spent, "evaluate": 0.25 * spent, "total": 1.0 * spent},
    }  # fmt: skip


def test_a_line_of_the_table_has_every_figure() -> None:
    records = [made_record("a", 0, [5.0, 10.0], 2), made_record("a", 1, [5.0, 5.0], 4)]
    records += [made_record("b", 0, [None, 8.0], 0), made_record("b", 1, [6.0, 6.0], 0)]
    a, b = summary.summarise(records, budget=2)
    assert (a["area"]["mean"], b["area"]["mean"]) == (pytest.approx((0.25 + 0.5) / 2), pytest.approx((0.6 + 0.4) / 2))
    assert a["area"]["low"] == 0.25 and a["area"]["high"] == 0.5
    assert (a["tokens_prompt"], a["tokens_completion"]) == (9.0, 3.0)
    assert (a["seconds_llm"], a["seconds_evaluate"], a["seconds_total"]) == (1.5, 0.75, 3.0)
    assert (a["found"], a["median_queries"], b["median_queries"]) == (0.5, ">2", ">2")
    assert b["versus"]["row"] == "a" and b["versus"]["normalised_regret"]["mean"] == pytest.approx((0.2 - 0.1) / 2)


def test_rows_that_lack_a_package_are_left_out_of_the_default_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda package: package)
    assert left_out() is None and {"tpe", "nsga2", "smac", "gp-exp"} <= set(default_rows())
    monkeypatch.setattr(optimizers, "find_spec", lambda package: None)
    assert left_out() == "without nsga2, smac, tpe; to have them: pip install 'collm-nas[rivals,smac]'"
    assert {"tpe", "nsga2", "smac", "gp-exp", "collm"} & set(default_rows()) == {"gp-exp", "collm"}


def test_caps_lower_the_best_known_value(tmp_path: Path) -> None:
    args = arguments(*table(tmp_path), "--fitness", "valid", "--max-flops", "100", "--init", "2", "--rows", "random")
    instance = load(plan.make(args, None).cases[0].protocol.problem, 0)
    assert (instance.best, len(instance.starts(3, 0))) == (52.0, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--problem", "tables"], "'tables' is unknown; legal: digits-cells"),
        (["--problem", "table"], "needs --space and --table"),
        (["--problem", "landscapes", "--budget", "0"], "--budget must be at least 1"),
        (["--problem", "landscapes", "--init", "200"], "--init 200 must lie in 0..--budget"),
        (["--problem", "landscapes", "--variables", "0"], "--variables"),
        (
            ["--problem", "landscapes", "--objective", "fitness", "--objective", "flops"],
            "is for landscapes on a --space",
        ),
        (["--objective", "params"], "--objective params leaves out fitness"),
        (["--objective", "fitness", "--objective", "latency"], "nor the table knows the cost 'latency'"),
        (["--objective", "fitness", "--objective", "flops", "--init", "1"], "--init 1 is too few for several"),
        (["--problem", "landscapes", "--max-flops", "3"], "--max-flops"),
        (["--problem", "landscapes", "--rows", "random,gp:speed=2", "--seeds", "2"], "no option 'speed'"),
        (["--problem", "landscapes", "--rows", "aging-evolution:population=2", "--seeds", "2"], "tournament 5"),
        (
            ["--problem", "landscapes", "--rows", "random,collm", "--model", "no-such-model"],
            "no-such-model does not",
        ),
    ],
)
def test_bad_input_ends_before_anything_is_written(wrong: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        command.run(arguments("--rows", "random", *wrong, "--out", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_cap_without_cost_and_one_below_the_cheapest(tmp_path: Path) -> None:
    for cap, message in (
        ("--max-latency", "the cost 'latency'; known: flops"),
        ("--max-flops", "--max-flops 1; raise"),
    ):
        args = arguments(*table(tmp_path), "--fitness", "valid", cap, "1", "--out", str(tmp_path / "out"))
        with pytest.raises(UserError, match=message):
            command.run(args)


def test_the_model_row_runs_through_the_same_loop(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A tiny untrained model: what it proposes is its own, and counted with its tokens and seconds."""
    from tests.inference.small import build_model

    folder = build_model(tmp_path_factory.mktemp("model"))
    row = parse_row("collm", {"model": str(folder), "decoding": "new"})
    record = bench.search(bench.Job(Protocol(problem=LANDSCAPES, budget=15, init=5, seeds=1), row, 0))
    assert record["by_proposer"]["model"] + record["by_proposer"]["fallback"] == 10
    assert record["by_proposer"]["model"] > 0 and record["tokens"]["completion"] > 0
    assert record["seen"] == "unseen" and record["seconds"]["llm"] > 0


# --- several objectives -----------------------------------------------------------------------------------------------

TWO = ("--objective", "flops", "--objective", "fitness")


def test_the_bench_of_fronts_on_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table's front is `b z` at 200 flops and `a z` at 100."""
    problem = [*table(tmp_path), "--fitness", "valid", *TWO, "--budget", "9", "--init", "3", "--seeds", "2"]
    rows = ["--rows", "random,nsga2,local-search", "--processes", "1", "--out", str(tmp_path / "out")]
    assert command.run(arguments(*problem, *rows)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "objective fitness,flops" in printed and "table's front" in printed
    found = list(csv.DictReader((tmp_path / "out" / "bench.csv").read_text().splitlines()))
    assert len(found) == 6 and all(float(row["share"]) == 1.0 and row["front_size"] == "2" for row in found)
    said = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert said["protocol"]["objective"] == ["fitness", "flops"]
    assert [row["share"]["mean"] for row in said["rows_summary"]] == [1.0, 1.0, 1.0]


def front_record(row: str, seed: int, front: list[tuple[float, float]], known: float | None = None) -> bench.Record:
    made = made_record(row, seed, [5.0], 0)
    return {**made, "front": front, "reference": (0.0, 10.0), "known": known}


def test_shares_are_of_the_union_where_nobody_knows_the_front() -> None:
    records = [front_record("a", 0, [(-4.0, 5.0)]), front_record("b", 0, [(-2.0, 0.0)])]
    records += [front_record("a", 1, [(-1.0, 0.0)]), front_record("b", 1, [(-1.0, 0.0)])]
    a, b = fronts.summarise(records, "a")
    assert a["share"]["mean"] == pytest.approx((20 / 30 + 1) / 2) == b["share"]["mean"]
    assert (b["versus"]["worse"], b["versus"]["equal"], b["versus"]["better"]) == (0, 2, 0)
    assert a["normalised_to"] == "the fronts of all rows"


def test_shares_are_of_the_known_front_where_there_is_one() -> None:
    records = [front_record("a", 0, [(-4.0, 5.0)], 40.0), front_record("b", 0, [(-2.0, 0.0)], 80.0)]
    a, b = fronts.summarise(records, "a")
    assert (a["share"]["mean"], b["share"]["mean"]) == (0.5, 0.5)
    assert a["normalised_to"] == "the table's front"


def test_a_noisy_front_is_judged_by_what_it_is_worth() -> None:
    spec = ProblemSpec(kind="validation", space="digits-mbconv")
    shared = Protocol(problem=spec, budget=14, init=6, seeds=1, objective=("fitness", "flops"))
    record = bench.search(bench.Job(shared, parse_row("nsga2"), 0))
    instance = load(spec, 0)
    worths = {-instance.evaluator.report(arch)["true"] for arch in instance.starts(6, 0)}
    assert record["known"] is None and record["reference"][0] == max(worths)
    assert all(len(point) == 2 for point in record["front"])
    alone = Protocol(problem=spec, budget=14, init=6, seeds=1)
    assert bench.Job(shared, parse_row("nsga2"), 0).key() != bench.Job(alone, parse_row("nsga2"), 0).key()
