"""A supernet as a benchmark's problem, and a training's log for TensorBoard."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest

from collm_nas.api import UserError
from collm_nas.evaluators import supernet
from collm_nas.supernets import session, tensorboard
from eval import bench, problems
from eval.rows import parse_row


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "digits"
    session.train("digits-mbconv", None, folder, epochs=2)
    return folder


def test_all_rows_search_the_same_supernet(trained: Path, tmp_path: Path) -> None:
    spec = problems.ProblemSpec(kind="supernet", supernet=str(trained))
    instance = problems.load(spec, 3)
    assert (instance.best, instance.truth) == (100, None)
    assert 0 < instance.typical < 100
    assert instance.starts(4, 3) == problems.load(spec, 3).starts(4, 3) != instance.starts(4, 4)
    protocol = bench.Protocol(problem=spec, budget=8, init=4, batch=2, seeds=2)
    rows = [parse_row("random"), parse_row("spos-evolution")]
    records = bench.run_jobs([bench.Job(protocol, row, s) for s in range(2) for row in rows], tmp_path / "s.jsonl")
    assert len(records) == 4
    for record in records:
        assert record["regret"] == pytest.approx(100 - record["final"])
        assert set(record["report"]) == {"test"}
    assert "sha256" in problems.describe(spec) and problems.describe(spec)["space"] == "digits-mbconv"


@pytest.mark.parametrize(
    "options", [{"kind": "supernet"}, {"kind": "digits-cells", "supernet": "x"}, {"kind": "landscapes", "data": "x"}]
)
def test_what_does_not_go_together(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="--problem supernet needs --supernet F"):
        problems.ProblemSpec(**options)  # type: ignore[arg-type]


def test_tensorboard_gets_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    log = tensorboard.logger(tmp_path)
    for epoch in (1, 2):
        log({"epoch": epoch, "loss": 1 / epoch, "rate": 0.1})
    [file] = (tmp_path / tensorboard.FOLDER).iterdir()
    assert file.stat().st_size > 200


def test_a_race_is_run_against_the_best_so_far(trained: Path) -> None:
    evaluator = supernet.load(None, trained, race=True)
    arch = evaluator.space.sample(random.Random(0))
    [whole], [told], [cut] = (evaluator.evaluate([arch], best) for best in (None, 0.0, 100.0))
    assert whole == replace(told, seconds=whole.seconds), "nothing to be beaten by"
    assert cut.source == "supernet, 250 images" and whole.source == "supernet, 1000 images"
    assert cut.error > whole.error
    slow = supernet.load(None, trained)
    assert not slow.bounded and evaluator.bounded
    copied = pickle.loads(pickle.dumps(evaluator))
    assert copied.evaluate([arch])[0].fitness == whole.fitness
    assert len(pickle.dumps(evaluator)) < 2_000_000, "decoded images stay at home"
