"""`collm-nas report RUN... --to TOOL`: what the tools' own readers find, and what is refused."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from collm_nas import rundir, spaces
from collm_nas.cli import main
from eval import trackers
from eval.trackers import mlflow as mlflow_tracker
from tests.unit.eval import made

BUDGET = 12
WRITTEN = 1_700_000_000.0
"""When the journals were last written, in seconds since 1970."""

tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="tensorboard is not installed (extra tensorboard)"
)
mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed (extra mlflow)")
foreign_warnings = pytest.mark.filterwarnings("ignore")  # of SQLAlchemy and others below MLflow


def journal(run: Path, seed: int, keep: int | None = None, torn: str = "", models: bool = True) -> None:
    """The first `keep` events of a made-up run, and the beginning of another."""
    run.mkdir(parents=True, exist_ok=True)
    caps = {"flops": 60_000.0}
    events = made.journal(spaces.load("digits-cells"), BUDGET, models=models, seed=seed, caps=caps)
    path = run / "journal.jsonl"
    path.write_text("".join(json.dumps(e) + "\n" for e in events[:keep]) + torn)
    os.utime(path, (WRITTEN, WRITTEN))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the runs `a` (two models) and `deep/b` (a baseline), both ended."""
    monkeypatch.chdir(tmp_path)
    journal(tmp_path / "a", 0)
    journal(tmp_path / "deep" / "b", 1, models=False)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence on stderr."""
    capsys.readouterr()
    assert main(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith("collm-nas: error: ")
    return err


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def event_files(folder: Path) -> set[str]:
    """The folders of the event files, hidden ones too."""
    return {str(path.parent.relative_to(folder)) for path in folder.rglob("*tfevents*")}


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


@tensorboard
def test_event_files_hold_the_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a", "deep/b", "--to", "tensorboard"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tensorboard/a", "tensorboard/deep/b", "open it by: tensorboard --logdir tensorboard"
    ]  # fmt: skip
    result, events = rundir.load(runs / "a")
    found = read(runs / "tensorboard" / "a")
    evaluations = [e for e in events if e["event"] == "evaluation"]
    for name, values in {
        "fitness": [e["fitness"] for e in evaluations],
        "feasible": [float(e["feasible"]) for e in evaluations],
        "cost/flops": [e["costs"]["flops"] for e in evaluations],
    }.items():
        assert [event.step for event in found.Scalars(name)] == list(range(1, BUDGET + 1))
        assert [event.value for event in found.Scalars(name)] == pytest.approx(values)
    begun = WRITTEN - events[-1]["time"]
    assert [event.wall_time - begun for event in found.Scalars("fitness")] == pytest.approx(
        [e["time"] for e in evaluations], abs=1e-3
    )
    [best] = found.Scalars("best/fitness")
    assert best.value == pytest.approx(result["best"]["fitness"]) and best.step == BUDGET
    assert best.wall_time == pytest.approx(WRITTEN)
    [spent] = found.Scalars("tokens/completion")
    assert spent.value == result["tokens"]["completion"] > 0
    [text] = found.Tensors("best/text_summary")
    assert result["best"]["arch"] in text.tensor_proto.string_val[0].decode()


@tensorboard
def test_parameters_are_on_the_page_for_them(runs: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    assert main(["report", "a", "--to", "tensorboard"]) == 0
    found = read(runs / "tensorboard" / "a")
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    parameters = metadata.parse_session_start_info_plugin_data(content).hparams
    assert parameters["space"].string_value == "digits-cells" and parameters["optimizer"].string_value == "collm"
    assert parameters["seed"].number_value == 0 and parameters["caps/flops"].number_value == 60_000
    assert "budget 12 | seed 0" in parameters["protocol"].string_value
    assert parameters["version/collm-nas"].string_value == "0"


@tensorboard
def test_the_same_run_again_replaces_what_is_there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(runs / "a", 0, keep=12)
    assert main(["report", "a", "--to", "tensorboard"]) == 0
    before = names(runs / "tensorboard")
    known = len(read(runs / "tensorboard" / "a").Scalars("fitness"))
    assert 0 < known < BUDGET
    journal(runs / "a", 0)  # it went on
    assert main(["report", "a", "a/", "--to", "tensorboard"]) == 0
    assert names(runs / "tensorboard") == before
    assert len(read(runs / "tensorboard" / "a").Scalars("fitness")) == BUDGET
    monkeypatch.chdir(runs / "deep")  # whence it has another name
    assert main(["report", "b", "--to", "tensorboard", "--out", "../tensorboard"]) == 0
    monkeypatch.chdir(runs)
    assert main(["report", "deep/b", "--to", "tensorboard"]) == 0
    assert event_files(runs / "tensorboard") == {"a", "deep/b"} and not (runs / "tensorboard" / "b").exists()


@tensorboard
def test_another_run_of_that_name_is_not_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a", "--to", "tensorboard"]) == 0
    before = {path: path.read_bytes() for path in (runs / "tensorboard").rglob("*tfevents*")}
    journal(runs / "a", 2)
    assert "tensorboard/a holds the curves of another run" in refused(capsys, "deep/b", "a", "--to", "tensorboard")
    assert {path: path.read_bytes() for path in (runs / "tensorboard").rglob("*tfevents*")} == before


@tensorboard
@pytest.mark.parametrize("keep", [1, 9])
def test_a_run_that_was_stopped(keep: int, runs: Path) -> None:
    """Its last line is torn; with one event it has evaluated nothing."""
    journal(runs / "a", 0, keep=keep, torn='{"event": "evaluation", "fitness": 9')
    held = (runs / "a" / "journal.jsonl").read_bytes()
    assert main(["report", "a", "--to", "tensorboard"]) == 0
    found = read(runs / "tensorboard" / "a")
    assert ("fitness" in found.Tags()["scalars"]) == (keep > 1)
    [text] = found.Tensors("ended/text_summary")
    assert b"interrupted" in text.tensor_proto.string_val[0]
    assert (runs / "a" / "journal.jsonl").read_bytes() == held and not (runs / "a" / "result.json").exists()


# --- MLflow -----------------------------------------------------------------------------------------------------------


def client(folder: Path) -> Any:
    found, _ = mlflow_tracker._client(folder)
    return found


def kept(folder: Path) -> dict[str, Any]:
    """The runs that MLflow shows, by name."""
    reader = client(folder)
    experiment = reader.get_experiment_by_name(mlflow_tracker.EXPERIMENT)
    found = reader.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found)
    return by_name


@mlflow
@foreign_warnings
def test_a_database_holds_the_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a"]) == 0
    journal(runs / "deep" / "b", 1, keep=-1, models=False)
    capsys.readouterr()
    assert main(["report", "a", "deep/b", "--to", "mlflow", "--out", "house"]) == 0
    out, err = capsys.readouterr()
    assert f"mlflow ui --backend-store-uri sqlite:///{runs / 'house' / 'mlflow.db'}" in out and not err
    result, events = rundir.load(runs / "a")
    found = kept(runs / "house")
    assert set(found) == {"a", "deep/b"}
    run = found["a"]
    assert (run.info.status, found["deep/b"].info.status) == ("FINISHED", "KILLED")
    assert run.info.end_time == WRITTEN * 1000
    assert run.data.params["optimizer"] == "collm" and "budget 12 | seed 0" in run.data.params["protocol"]
    assert run.data.metrics["best/fitness"] == result["best"]["fitness"]
    assert run.data.tags["best"] == result["best"]["arch"]
    reader = client(runs / "house")
    evaluations = [e for e in events if e["event"] == "evaluation"]
    begun = WRITTEN - events[-1]["time"]
    rows = [(m.step, m.value, m.timestamp) for m in reader.get_metric_history(run.info.run_id, "cost/flops")]
    assert rows == [(e["query"], e["costs"]["flops"], round(1000 * (begun + e["time"]))) for e in evaluations]
    assert {file.path for file in reader.list_artifacts(run.info.run_id)} == {"result.json", "report.html"}
    text = next((runs / "house" / "artifacts" / run.info.run_id).rglob("result.json")).read_text()
    assert json.loads(text) == result
    assert not (runs / "mlruns").exists()


@mlflow
@foreign_warnings
def test_the_same_run_again_is_one_run(runs: Path) -> None:
    journal(runs / "a", 0, keep=12)
    into = ["--to", "mlflow", "--out", "house"]
    assert main(["report", "a", "deep/b", *into]) == 0
    first = kept(runs / "house")
    journal(runs / "a", 0)
    assert main(["report", "a", "deep/b", *into]) == 0
    second = kept(runs / "house")
    assert first["deep/b"].info.run_id == second["deep/b"].info.run_id, "nothing has changed in it"
    assert first["a"].info.run_id != second["a"].info.run_id and second["a"].info.status == "FINISHED"


@mlflow
@foreign_warnings
def test_what_fails_midway_leaves_no_half_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = ["--to", "mlflow", "--out", "house"]
    assert main(["report", "a", *into]) == 0
    first = kept(runs / "house")
    journal(runs / "a", 0, keep=12)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow_tracker, "_metrics", stopped)
    assert main(["report", "a", "deep/b", *into]) == 130
    assert {name: run.info.run_id for name, run in kept(runs / "house").items()} == {"a": first["a"].info.run_id}


@mlflow
@foreign_warnings
def test_folders_that_mlflow_would_stumble_over(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "files" / "0").mkdir(parents=True)
    (runs / "files" / "0" / "meta.yaml").write_text("name: Default\n")
    assert "mlflow migrate-filestore" in refused(capsys, "a", "--to", "mlflow", "--out", "files")
    (runs / "junk").mkdir()
    (runs / "junk" / "mlflow.db").write_text("not a database")
    assert "mlflow.db is no SQLite database" in refused(capsys, "a", "--to", "mlflow", "--out", "junk")
    (runs / "junk" / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    assert "cannot write junk/mlflow.db" in refused(capsys, "a", "--to", "mlflow", "--out", "junk")


def test_names_that_mlflow_takes() -> None:
    assert mlflow_tracker._legal({"report/val@200": 1, "report/val#200": 2, "cost/flops": 3}) == {
        "report/val_200": 1, "report/val_200_": 2, "cost/flops": 3
    }  # fmt: skip
    assert len(mlflow_tracker._cut("x" * 501)) == 500 and mlflow_tracker._cut("x" * 500) == "x" * 500


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_tool(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "a", "--to", "mlfow")
    assert "--to 'mlfow' is unknown; legal: html, mlflow, tensorboard" in said
    assert names(runs) == {"a", "a/journal.jsonl", "deep", "deep/b", "deep/b/journal.jsonl"}


@pytest.mark.parametrize("tool", trackers.names())
def test_a_missing_package(
    tool: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    said = refused(capsys, "a", "--to", tool)
    assert f"--to {tool} needs {tool}, which is not installed: python -m pip install -c constraints.txt {tool}" in said
    assert not (runs / tool).exists()


@pytest.mark.parametrize("tool", trackers.names())
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nowhere", "nowhere holds no journal.jsonl"),
        ("empty", "the journal holds no header"),
        ("damaged", "journal.jsonl is damaged at line 2"),
    ],
)
def test_what_is_no_run(
    what: str,
    said: str,
    tool: str,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    journal(runs / "damaged", 3)
    lines = (runs / "damaged" / "journal.jsonl").read_text().splitlines()
    (runs / "damaged" / "journal.jsonl").write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]))
    (runs / "empty").mkdir()
    (runs / "empty" / "journal.jsonl").write_text("")
    assert said in refused(capsys, "a", what, "--to", tool)
    assert not (runs / tool).exists()


@pytest.mark.parametrize("tool", trackers.names())
def test_a_place_that_cannot_be_written(
    tool: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    (runs / "file").write_text("")
    for out in ("file", "file/inside"):
        assert f"--out {out} cannot be written" in refused(capsys, "a", "--to", tool, "--out", out)


def test_two_runs_of_one_name(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    journal(runs / "else" / "b", 4)
    (runs / "c").mkdir()
    monkeypatch.chdir(runs / "c")
    assert "two of these runs are called 'b'" in refused(capsys, "../deep/b", "../else/b", "--to", "tensorboard")
    assert not list((runs / "c").iterdir())
