from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune import data, shared_prompt, tokenizer


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "data"
    mine(Landscapes(landscapes=30, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), out)
    return out


def test_loss_falls_on_the_completion_alone(mined: Path, tmp_path: Path) -> None:
    tok = tokenizer.build()
    for row in data.load(mined, tok, None, tmp_path).select(range(10)):
        answer = [i for i in row["labels"] if i != shared_prompt.IGNORED]
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


@pytest.fixture(scope="module")
def with_others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("others") / "data"
    source = Landscapes(landscapes=4, draws=16, answers=3, form=Form(targets=1), large=0.0, huge=0.0, real=0.0)
    mine(source, out)
    return out


@pytest.mark.parametrize(("answers", "optimum_only"), [(None, False), (2, False), (None, True), (1, True)])
def test_further_answers_follow_the_first_and_end_with_their_first_anchor(
    with_others: Path, tmp_path: Path, answers: int | None, optimum_only: bool
) -> None:
    tok = tokenizer.build()
    rows = data.load(with_others, tok, "navigator", tmp_path, answers=answers, optimum_only=optimum_only)
    most = 0
    for row in rows:
        cuts = [*(row["starts"] or [0]), row["length"]]
        parts = [row["labels"][a:b] for a, b in itertools.pairwise(cuts)]
        texts = [tok.decode([i for i in part if i != shared_prompt.IGNORED]) for part in parts]
        most = max(most, len(texts))
        first, *others = texts
        assert first.count("<a>") == (1 if optimum_only else 3)
        assert ("<why" in first) == (not optimum_only)
        assert all(one.count("<a>") == 1 and "<" not in one.removeprefix("<a>") for one in others)
        assert {row["input_ids"][start] for start in row["starts"]} <= {tok.convert_tokens_to_ids("<nav>")}
    assert most == (answers or 3)
