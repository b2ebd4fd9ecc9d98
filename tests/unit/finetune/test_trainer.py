from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from collm_nas.api import UserError
from collm_nas.cli import main
from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune.recipes import Training
from finetune.trainer import _micro_batches, mixed_order


def test_micro_batches_have_one_length_and_neighbours_differ() -> None:
    """Batches of one length a step once taught the model to copy; sorting must not outlive the micro-batch."""
    lengths = np.random.default_rng(0).integers(40, 400, 4096).tolist()
    order = mixed_order(lengths, 16, seed=1)
    assert sorted(order) == list(range(4096))
    assert order == mixed_order(lengths, 16, seed=1)
    assert order != mixed_order(lengths, 16, seed=2)
    batches = np.asarray(lengths)[order].reshape(-1, 16)
    padded = batches.max(1) * 16
    assert padded.sum() < 1.05 * sum(lengths)
    means = batches.mean(1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


def test_a_step_is_shared_out_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(steps=1, batch=64, micro_batch=16)
    assert _micro_batches(training) == (16, 4)
    assert _micro_batches(Training(steps=1, batch=8, micro_batch=16)) == (8, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _micro_batches(training) == (16, 2)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert _micro_batches(training) == (8, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="64 examples can't be shared out among 3 processes"):
        _micro_batches(training)


@pytest.mark.slow
def test_two_processes_write_one_folder_and_learn_the_same(tmp_path: Path) -> None:
    """Gradients are shared in the forward pass of the whole model alone, which our loss goes around."""
    mine(
        Landscapes(landscapes=30, form=Form(targets=2, hinted=0.0), large=0.0, huge=0.0, real=0.0),
        tmp_path / "data",
    )
    (tmp_path / "four.yaml").write_text("navigator: {micro_batch: 4}\ngenerator: {micro_batch: 4}")
    tune = ["finetune", "--recipe", "tiny", "--model", "embedded", "--config", str(tmp_path / "four.yaml")]
    tune += ["--dataset", str(tmp_path / "data"), "--out"]
    two = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "collm_nas", *tune, str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, *two],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("adapter navigator: 4 steps") == 1, "one of them speaks"
    assert main([*tune, str(tmp_path / "one")]) == 0
    one, both = (json.loads((tmp_path / out / "manifest.json").read_text())["loss"] for out in ("one", "two"))
    assert both == pytest.approx(one, abs=2e-3)
