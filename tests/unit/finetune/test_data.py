from __future__ import annotations

from pathlib import Path

import pytest

from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune import data, tokenizer


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "data"
    mine(Landscapes(landscapes=30, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), out)
    return out


def test_loss_falls_on_the_completion_alone(mined: Path, tmp_path: Path) -> None:
    tok = tokenizer.build()
    for row in data.load(mined, tok, None, tmp_path).select(range(10)):
        answer = [i for i in row["labels"] if i != data.IGNORED]
        assert row["input_ids"][-len(answer) :] == answer
        assert answer[-1] == tok.eos_token_id
        prompt_end = tok.decode(row["input_ids"][-len(answer) - 1])
        assert prompt_end in ("<nav>", "<gen>")


def test_a_share_of_the_generator_keeps_every_navigator_example(mined: Path, tmp_path: Path) -> None:
    tok = tokenizer.build()
    both, some = (data.load(mined, tok, None, tmp_path, generator_share=share) for share in (1.0, 0.25))
    navigator = data.load(mined, tok, "navigator", tmp_path)
    assert len(navigator) == 60
    assert len(both) == 120
    assert 5 <= len(some) - 60 <= 25
