"""TensorBoard, and how long is left."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from collm_nas.cli import main
from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune.model_folder import build
from finetune.recipes import TINY
from finetune.watch import duration


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "data"
    mine(Landscapes(landscapes=12, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), out)
    return out


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed (extra tensorboard)")
def test_event_files_hold_loss_and_validation(mined: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    build(TINY, [mined], tmp_path / "out", lambda text: None, tensorboard=True)
    folder = tmp_path / "out" / "work" / "tensorboard"
    assert {path.name for path in folder.iterdir()} == {"base-0", "base-1", "navigator", "generator"}
    read = EventAccumulator(str(folder / "navigator"))
    read.Reload()
    assert {"loss", "learning_rate", "held_out", "regret"} <= set(read.Tags()["scalars"])
    assert [event.step for event in read.Scalars("loss")] == [2, 4]


def test_without_the_package_it_is_said(
    mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tune = ["finetune", "--recipe", "tiny", "--dataset", str(mined), "--out", str(tmp_path / "out")]
    assert main([*tune, "--tensorboard"]) == 2
    assert "--tensorboard needs the extra of that name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
