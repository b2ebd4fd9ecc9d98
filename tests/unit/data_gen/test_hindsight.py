"""Pairs in hindsight: which strategies are compared, and that the dataset is the same however it was mined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from collm_nas import rollouts
from collm_nas.api import UserError
from collm_nas.cli import main
from collm_nas.prompts import DIGEST_VERSION
from collm_nas.strategy import Strategy
from data_gen import quality
from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_hindsight import Hindsight
from tests.unit import test_rollouts
from tests.unit.test_rollouts import MADE

MODEL: dict[str, object] = {"model": {"navigator": "1" * 64, "generator": "2" * 64}, "sources": {"a-table": "3" * 64}}


class Model(test_rollouts.Model):
    """Legal answers from the request alone."""

    def describe(self) -> dict[str, object]:
        return MODEL


def load(model: Path) -> Model:
    return Model(MADE.space)


class OnMade(Hindsight):
    """Draws `MADE` for every seed, in worker processes, too."""

    def _mix(self) -> Any:
        return Always()


class Always:
    large = huge = real = 0.0

    def draw(self, rng: Any) -> Any:
        return MADE.landscape


def source(kind: type[Hindsight] = OnMade, **changes: Any) -> Hindsight:
    return kind(model=Path("toy"), load=load, **{"landscapes": 6, "longest": 40, **changes})


def pairs(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("part-*")) for row in pq.read_table(path).to_pylist()]


def test_the_chosen_strategy_brought_more_by_the_margin(tmp_path: Path) -> None:
    every = list(source(margin=0.0).examples(0))
    assert len(every) == 2 and every[0].evaluations < every[1].evaluations
    for pair in every:
        assert rollouts.WORST <= pair.outcome_rejected < pair.outcome
        assert pair.completion != pair.rejected
    gap = min(pair.outcome - pair.outcome_rejected for pair in every)
    few = list(source(margin=gap).examples(0))
    assert few == [pair for pair in every if pair.outcome - pair.outcome_rejected > gap] and len(few) < 2


def test_outcomes_are_those_of_following_the_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the batches; all strategies of a point are followed with the same seeds."""
    seen: dict[str, list[int]] = {}

    def toy(point: rollouts.Point, engine: Any, strategy: str, seed: int) -> float:
        seen.setdefault(strategy, []).append(seed)
        return float(Strategy.parse(strategy, MADE.space).anchors[0].choices[0]) + len(seen[strategy])

    monkeypatch.setattr(rollouts, "outcome", toy)
    [pair] = source(digests=1, strategies=6, batches=3).examples(1)
    first = {text: Strategy.parse(text, MADE.space).anchors[0].choices[0] for text in seen}
    assert first[pair.completion] == max(first.values()) and first[pair.rejected] == min(first.values())
    assert pair.outcome == first[pair.completion] + 2
    assert len({tuple(seeds) for seeds in seen.values()}) == 1 and len(set(seen[pair.completion])) == 3


def test_the_dataset_is_the_same_for_any_number_of_processes_and_after_a_kill(tmp_path: Path) -> None:
    whole = mine(source(), tmp_path / "a")
    assert list(whole["shards"]) == ["part-00000.parquet", "part-00001.parquet"]
    assert mine(source(), tmp_path / "b", processes=2)["shards"] == whole["shards"]
    (tmp_path / "b" / "part-00001.parquet").unlink()
    assert mine(source(), tmp_path / "b")["shards"] == whole["shards"]
    rows = pairs(tmp_path / "a")
    assert {row["role"] for row in rows} == {"navigator"} and rows[0]["miner"] == "hindsight"
    assert [turn["role"] for turn in rows[0]["messages"]] == ["user", "assistant"]
    assert {"rejected", "outcome", "outcome_rejected"} <= rows[0].keys()


def test_the_manifest_carries_over_what_the_model_has_seen(tmp_path: Path) -> None:
    manifest = mine(source(landscapes=1), tmp_path)
    assert manifest["labeller"] == "hindsight" and manifest["sources"] == MODEL["sources"]
    assert manifest["settings"]["model"] == f"navigator:{'1' * 16},generator:{'2' * 16}"
    assert "a model trained on them has seen a-table" in quality.write(tmp_path, manifest)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    assert sum(quality.count(tmp_path).differences.values()) == len(pairs(tmp_path))
    assert "how much more the better answer brought" in (tmp_path / "quality.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategies": 1}, "--strategies must be at least 2"),
        ({"batches": 0}, "--batches 0 must be at least 1"),
        ({"margin": -0.1}, "--margin -0.1 at least 0"),
        ({"longest": 9}, "--digests 2 must lie in"),
        ({"landscapes": 0}, "--landscapes must be at least 1"),
        ({"first_seed": 999_999_999}, "are held out for measuring"),
        ({"huge": 2.0}, "are shares"),
        ({"form": Form(digest_version=1, hinted=0.0)}, f"say --digest-version {DIGEST_VERSION}"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        source(Hindsight, **changes)


def test_the_command_wants_a_model_with_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["mine", "--source", "hindsight", "--out", str(tmp_path / "none")]
    for more, said in (
        ([], "--source hindsight needs --model DIR"),
        (["--model", str(tmp_path / "nothing")], "does not exist"),
        (["--model", str(tmp_path)], "is not a model folder"),
    ):
        assert main([*line, *more]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert main(["mine", "--model", "embedded", "--out", str(tmp_path / "none")]) == 2
    assert "--model is for --source hindsight" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
