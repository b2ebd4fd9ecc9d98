"""Mining what a user has: a table, run folders, logs, Optuna studies."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import collm_nas
from collm_nas import spaces
from collm_nas.api import UserError
from collm_nas.cli import main
from collm_nas.strategy import Strategy
from data_gen import logs
from data_gen.mine_runs import Runs
from data_gen.mine_table import Table

SPACE = """
name: toy
variables:
  - {name: depth, choices: [1, 2]}
  - {name: a, choices: [x, y, z]}
  - {name: b, choices: [x, y, z], active_if: {depth: [2]}}
costs: {params: {base: 1, depth: [0, 5], a: [1, 2, 3]}}
"""


def _score(arch: Any) -> float:
    return float(sum((i + 1) * c for i, c in enumerate(arch.choices)))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(SPACE)
    space = spaces.load(tmp_path / "toy.yaml")
    rows = [f"{space.format(arch)},{_score(arch)}" for arch in space.all()]
    (tmp_path / "toy.csv").write_text("arch,score\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_a_table_s_labels_are_its_best_rows(toy: Path) -> None:
    source = Table(space=str(toy / "toy.yaml"), table=str(toy / "toy.csv"), searches=12)
    space = spaces.load(toy / "toy.yaml")
    capped = 0
    for unit in range(12):
        rows = list(source.examples(unit))
        assert rows == list(source.examples(unit)), "the same in every process"
        for row in rows:
            if row.role == "navigator":
                anchor = Strategy.parse(row.completion, space).anchors[0]
                if "<cap>" in row.prompt:
                    capped += 1
                else:
                    assert space.format(anchor) == "2 z z"
                assert row.evaluations <= 12
    assert capped, "some searches are under a cap"
    assert list(source.sources()) == ["toy.csv"]


def test_runs_are_labelled_by_the_best_of_all_of_them(toy: Path) -> None:
    space = spaces.load(toy / "toy.yaml")
    for seed, optimizer in enumerate(("random", "aging-evolution")):
        collm_nas.search(space, _score, budget=10, seed=seed, optimizer=optimizer, out=toy / "runs" / optimizer)
    source = Runs(run=(str(toy / "runs"),))
    assert source.units() == 2
    pooled = {
        e["arch"]: e["fitness"] for name in ("random", "aging-evolution") for e in _evaluations(toy / "runs" / name)
    }
    best = max(pooled, key=pooled.__getitem__)
    for unit in range(2):
        rows = [row for row in source.examples(unit) if row.role == "navigator"]
        assert [row.evaluations for row in rows] == [0, 5, 10]
        assert {space.format(Strategy.parse(row.completion, space).anchors[0]) for row in rows} == {best}


def _evaluations(run: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "evaluation"]


def test_the_hash_of_a_searched_table_makes_the_model_say_seen(toy: Path) -> None:
    line = ["search", "--space", str(toy / "toy.yaml"), "--table", str(toy / "toy.csv"), "--optimizer", "random"]
    assert main([*line, "--budget", "12", "--out", str(toy / "run")]) == 0
    protocol = json.loads((toy / "run" / "result.json").read_text())["protocol"]
    assert protocol["sha256"] in Runs(run=(str(toy / "run"),)).sources().values()


def test_logs_are_read_in_order_and_told_apart_by_a_column(toy: Path) -> None:
    (toy / "log.csv").write_text(
        "depth,a,b,acc,who\n2,z,y,3.5,ann\n1,x,,1,ann\n2,z,y,9,ann\n1,y,,nan,ann\n2,x,x,2,bob\n"
    )
    found = logs.from_table(toy / "log.csv", spaces.load(toy / "toy.yaml"), "acc", "who")
    assert [log.name for log in found] == ["log.csv ann", "log.csv bob"]
    assert found[0].values == (3.5, 1.0), "a repeat and a failed evaluation are left out"
    assert found[0].task == found[1].task


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth,a,b,acc\n2,z,q,3\n", r"log.csv, line 2: .*'q'"),
        ("depth,a,b,acc\n2,z,x,bad\n", r"log.csv, line 2: column 'acc' holds 'bad', which is no number"),
        ("a,b,acc\nz,x,1\n", r"needs a column 'arch' or one column a variable"),
    ],
)
def test_a_log_of_another_space_is_named(toy: Path, text: str, said: str) -> None:
    (toy / "log.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        logs.from_table(toy / "log.csv", spaces.load(toy / "toy.yaml"), "acc", None)


def test_an_optuna_study_is_a_log(toy: Path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = toy / "study.db"
    study = optuna.create_study(
        study_name="s", storage=f"sqlite:///{storage}", direction="minimize", sampler=optuna.samplers.RandomSampler(0)
    )
    rng = random.Random(0)

    def objective(trial: Any) -> float:
        trial.suggest_categorical("a", ["x", "y", "z"])
        if trial.suggest_categorical("depth", [1, 2]) == 2:
            trial.suggest_categorical("b", ["x", "y", "z"])
        return rng.random()

    study.optimize(objective, n_trials=60)
    (log,) = logs.from_optuna(str(storage), None, spaces.load(toy / "toy.yaml"))
    assert len(log.archs) == len(set(log.archs)) == 12
    assert all(-1 <= value <= 0 for value in log.values), "minimised: turned round"
    assert Runs(optuna=(str(storage),), space=str(toy / "toy.yaml")).units() == 1
    with pytest.raises(UserError, match=r"--study 't' is not in .*it holds s"):
        logs.from_optuna(str(storage), "t", spaces.load(toy / "toy.yaml"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "needs --run DIR, --log FILE or --optuna STORAGE"),
        (["--log", "x.csv"], "need --space S"),
        (["--run", "."], "holds no journal.jsonl"),
        (["--optuna", "none.db", "--space", "digits-cells"], "there is no such file"),
    ],
)
def test_bad_sources_end_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["mine", "--source", "runs", *options, "--out", "d"]) == 2
    error = capsys.readouterr().err
    assert re.search(re.escape(said), error), error
    assert not (tmp_path / "d").exists()


def test_runs_of_too_few_evaluations_teach_nothing(toy: Path) -> None:
    collm_nas.search(spaces.load(toy / "toy.yaml"), _score, budget=4, optimizer="random", out=toy / "short")
    with pytest.raises(UserError, match="none of the 1 searches given has 10 evaluations or more"):
        Runs(run=(str(toy / "short"),))
