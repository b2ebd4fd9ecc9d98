"""Protocol files: what they may say, what the command line changes, what is refused in a sentence."""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import pytest
from pyarrow import parquet

from collm_nas.api import UserError
from eval import beside, command, plan, printed, protocols
from eval.bench import Protocol
from eval.measured import Figure, Measured
from eval.problems import ProblemSpec
from eval.rows import MODEL_ROW, parse_row
from eval.study import Column
from tests.unit.eval.test_bench import arguments, table


def small(folder: Path, more: str = "") -> Path:
    """A protocol of two cases on the table of 9 architectures, which it doesn't name."""
    table(folder)
    path = folder / "small.yaml"
    path.write_text(
        f"title: small\nproblem: table\nspace: {folder / 's.yaml'}\nbudget: 8\ninit: 2\nbatch: 1\nseeds: 3\n"
        "checkpoints: [2, 5, 8]\n"
        "rows: [random, {row: local-search, label: climber, init: 0, budget: 6, seeds: 2}]\n"
        "cases: {by valid: {fitness: valid, report: [test]}, by test: {fitness: test}}\n" + more
    )
    return path


def run(folder: Path, path: Path | str, *more: str) -> Path:
    args = ["--protocol", str(path), "--table", str(folder / "t.csv"), "--processes", "1", "--out", str(folder / "out")]
    assert command.run(arguments(*args, *more)) == 0
    return folder / "out"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("name", protocols.names())
def test_every_committed_protocol_is_read_and_names_no_table(name: str) -> None:
    study = protocols.load(name)
    assert study.rows and study.notes and "table" not in study.options
    if study.printed:
        known = {(row, case) for row in (r.label for r in study.rows) for case in study.cases}
        figures = printed.read(study.printed)
        assert all(figure.case in study.cases and figure.source for figure in figures)
        assert study.grid or name in ("paper-table4", "paper-ranking") or known & {(f.row, f.case) for f in figures}
    args = arguments("--protocol", name, "--table", "t.csv")
    options, changed = plan.settle(args, study)
    assert options.table == "t.csv" and not changed
    assert all(plan._row(row, options, study).label == row.label for row in study.rows)
    if name.startswith("paper"):
        assert any(plan._row(row, options, study).name == MODEL_ROW for row in study.rows)


def test_a_protocol_says_what_options_would_and_rows_have_sizes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(tmp_path, small(tmp_path))
    searches = rows(out / "bench.csv")
    assert {(r["case"], r["row"], r["seed"]) for r in searches} == {
        (case, row, str(seed))
        for case in ("by valid", "by test")
        for row, seeds in (("random", 3), ("climber", 2))
        for seed in range(seeds)
    }
    curves = rows(out / "curves.csv")
    assert len(curves) == 2 * (3 * 8 + 2 * 6)
    assert parquet.read_table(out / "curves.parquet").num_rows == len(curves)
    assert parquet.read_table(out / "bench.parquet").num_rows == len(searches)
    said = json.loads((out / "bench.json").read_text())
    assert set(said["cases"]) == {"by valid", "by test"}
    assert said["cases"]["by valid"]["rows_summary"][1]["versus"]["p_holm"] <= 1
    text = (out / "table.md").read_text()
    assert "climber: budget 6, init 0, seeds 2" in text and "Not the protocol as it is committed" not in text
    assert text in capsys.readouterr().out


def test_a_checkpoint_is_what_a_search_of_that_budget_hands_over(tmp_path: Path) -> None:
    """Rivals that ask for one point at a time do not look at the budget: the same search, cut."""
    path = small(tmp_path)
    stops = rows(run(tmp_path, path) / "checkpoints.csv")
    found = {
        (s["row"], s["seed"], s["measure"]): float(s["value"])
        for s in stops
        if s["case"] == "by valid" and s["queries"] == "5"
    }
    cut = rows(run(tmp_path, path, "--budget", "5", "--case", "by valid") / "bench.csv")
    assert len(cut) == 5
    for one in cut:
        assert found[one["row"], one["seed"], "fitness"] == float(one["final"])
        assert found[one["row"], one["seed"], "test"] == float(one["report_test"])
    assert not [s for s in stops if s["row"] == "climber" and s["queries"] == "8"], "it had but 6 queries"


def test_the_command_line_wins_and_is_said(tmp_path: Path) -> None:
    out = run(tmp_path, small(tmp_path), "--seeds", "1", "--rows", "climber,gp", "--case", "by test")
    text = (out / "table.md").read_text()
    assert "--seeds 1 (there: 3)" in text and "--rows climber,gp" in text
    assert [(r["row"], r["seed"]) for r in rows(out / "bench.csv")] == [("climber", "0"), ("gp", "0")]
    lengths = [r for r in rows(out / "curves.csv") if r["row"] == "climber"]
    assert len(lengths) == 6, "a row of the file keeps what the file says of it"


def test_the_same_protocol_searches_nothing_twice(tmp_path: Path) -> None:
    out = run(tmp_path, small(tmp_path))
    before = (out / "searches.jsonl").read_text()
    run(tmp_path, tmp_path / "small.yaml")
    assert (out / "searches.jsonl").read_text() == before


def test_ours_stands_beside_the_printed(tmp_path: Path) -> None:
    figures = "climber,by test,fitness,,42.00,0.5,a paper\nrandom,by test,fitness,,39.00,,a paper\n"
    figures += "DARTS,by test,fitness,,>1,,x\n"
    (tmp_path / "p.csv").write_text(",".join(printed.HEADER) + "\n" + figures)
    tables = "tables: [{title: T, columns: [{title: test, case: by test, measure: fitness}]}]\nprinted: p.csv\n"
    path = small(tmp_path, tables + "notes: [mind this]\n")
    text = (run(tmp_path, path, "--budget", "9", "--init", "0") / "table.md").read_text()
    assert "--init 0 (there: 2)" in text
    assert "| random | 3 | 42.00 [42.00, 42.00] (39.00) |" in text, "nine queries of nine find the best"
    assert "(42.00 ± 0.5) |" in text and "| DARTS |  | (>1) |" in text
    assert "- random, by test test: 42.00 [42.00, 42.00] (39.00), where all of our seeds are level" in text
    assert "Printed figures: a paper; x." in text and "- mind this" in text


@pytest.mark.parametrize(
    ("rows", "reference"),
    [
        (["random", "gp"], "random"),
        (["random", "collm:variant=blind", "collm:temperature=2", "collm"], "collm:temperature=2"),
        (["random", "collm:variant=blind"], "collm:variant=blind"),
    ],
)
def test_rows_are_held_against_the_models(rows: list[str], reference: str) -> None:
    protocol = Protocol(problem=ProblemSpec(kind="digits-cells"))
    made = tuple((parse_row(row), protocol) for row in rows)
    assert Measured("search", "", protocol, made, []).reference == reference


def test_a_grid_is_a_matrix_of_rows(tmp_path: Path) -> None:
    study = protocols.load("paper-temperature")
    assert len(study.rows) == 36 and study.rows[1].label == "navigator_temperature=0.2:generator_temperature=0.4"
    options, _ = plan.settle(arguments("--protocol", "paper-temperature", "--table", "t"), study)
    row = plan._row(study.rows[1], options, study)
    assert dict(row.options)["generator_temperature"] == 0.4
    layout = beside.layouts(study, [])
    assert layout == ()


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ("budgets: 3\n", (), "the key 'budgets' is unknown; legal: .*did you mean 'budget'"),
        ("grid: {temperature: [1]}\n", (), "`grid` makes the rows"),
        ("relabel: 1\n", (), "`relabel` must be true or false, got '1'"),
        ("max-flops: x\n", (), "`max_flops` must be a number, got 'x'"),
        ("printed: none.csv\n", (), "none.csv, which the protocol names as `printed`, does not exist"),
        ("budget: 9\n", (), "line 11: key 'budget' appears twice"),
        ("tables: [{columns: [{case: C10}]}]\n", (), "case 'C10' is unknown; legal: by valid, by test"),
        (
            "tables: [{columns: [{case: by test, measure: test}]}]\n",
            (),
            "the measure 'test'; legal there: fitness, queries",
        ),
        (
            "tables: [{columns: [{case: by test, measure: fitness, queries: 3}]}]\n",
            (),
            "is at 3 queries, which is none of `checkpoints`",
        ),
        ("", ("--fitness", "valid"), "--fitness is what the cases of --protocol .* differ in; choose some with --case"),
        ("", ("--case", "C10"), "--case 'C10' is unknown in --protocol .*; legal: by valid, by test"),
        ("", ("--rows", "climbr"), "--rows: 'climbr' is unknown"),
        ("", ("--init", "9"), "--init 9 must lie in 0..--budget"),
    ],
)
def test_a_wrong_protocol_is_told_in_a_sentence(
    more: str, options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, small(tmp_path, more), *options)
    assert not (tmp_path / "out").exists()


def test_names_files_and_tables_that_are_missing(tmp_path: Path) -> None:
    for given, message in (
        ("paper-table5", "unknown; legal: .*did you mean 'paper-table4'"),
        (str(tmp_path / "no.yaml"), "there is no such file; by name there are: paper-"),
    ):
        with pytest.raises(UserError, match=message):
            protocols.load(given)
    missing = "searches a table of nasbench201, which this package does not carry; say where yours is: --table FILE"
    with pytest.raises(UserError, match=missing):
        command.run(arguments("--protocol", "rivals-valid", "--out", str(tmp_path / "out")))
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        command.run(arguments("--protocol", "rivals-valid", "--table", "nowhere.csv"))
    assert not (tmp_path / "out").exists()


def test_without_a_protocol_nothing_has_changed() -> None:
    options, changed = plan.settle(arguments("--rows", "random"), None)
    assert not changed and (options.problem, options.budget, options.seeds) == ("digits-cells", 100, 30)
    assert (options.decoding, options.sampling) == ("new", "rejection")
    zero, _ = plan.settle(arguments("--init", "0", "--temperature", "0"), None)
    assert (zero.init, zero.temperature) == (0, 0.0), "a 0 is said, too"
    preset, _ = plan.settle(arguments("--preset", "paper"), None)
    assert preset.decoding is None, "the preset says it"
    assert isinstance(options, argparse.Namespace)


@pytest.mark.parametrize(
    ("mean", "error", "value", "apart"),
    [
        (93.2, 0.1, "94.0", -7.5),
        (94.04, 0.01, "94.0", 0.0),
        (94.3, 0.0, "94.0", math.inf),
        (94.3, 0.1, ">400", None),
        (None, math.inf, "94.0", None),
    ],
)
def test_how_far_ours_is_from_the_printed(mean: float | None, error: float, value: str, apart: float | None) -> None:
    """In standard errors, beyond the rounding of what is printed (0.05 here)."""
    theirs = printed.Printed("r", "c", "fitness", None, value, None, "x")
    cell = beside.Cell("r", Column("t", "c", "fitness"), Figure("", mean, error), theirs)
    assert cell.apart == (None if apart is None else pytest.approx(apart))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[random, {row: gp, label: random}]", "two rows are called 'random'; give one of them another `label`"),
        ("[{row: gp, label: 'a, b'}]", "the row 'a, b' has a comma, at which --rows parts"),
        ("[{label: a}]", r"rows\[0\]: has no `row`"),
        ("[{row: gp, seeds: many}]", r"rows\[0\]: `seeds` must be a whole number, got 'many'"),
    ],
)
def test_a_wrong_row_of_a_file_is_named(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"problem: digits-cells\nrows: {rows}\n")
    with pytest.raises(UserError, match=message):
        protocols.load(str(path))
