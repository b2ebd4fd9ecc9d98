"""The benchmark compares loops that do the same work."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from eval.benchmarks.training_speed import Case, loop, ours


@pytest.mark.parametrize("lora", [False, True])
def test_all_loops_end_at_the_same_loss(lora: bool, tmp_path: Path) -> None:
    mine(Landscapes(landscapes=12, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), tmp_path / "mined")
    case = Case(tmp_path / "mined", tmp_path, lora, 4, 4)
    found = [ours(case), loop(case, plain=False), loop(case, plain=True)]
    apart = 1e-2 * found[0]["loss"] if lora else 1e-2  # adapters begin at other random weights
    assert [one["loss"] for one in found] == pytest.approx([found[0]["loss"]] * 3, abs=apart)
    assert min(one["tokens_per_second"] for one in found) > 0
