from __future__ import annotations

from collm_nas.prompts import vocabulary
from data_gen.mine_landscapes import Landscapes
from finetune import tokenizer


def test_every_pair_is_one_token_and_text_survives() -> None:
    tok = tokenizer.build()
    assert len(tok) == len(vocabulary())
    assert tok.tokenize("<dir>a0Z9<s2>") == ["<dir>", "a0", "Z9", "<s2>"]
    for text in ("a0b3<e83><g0>", 'plain "text", with 1.5 and ~', "hello\tworld\n"):
        ids = tok(text)["input_ids"]
        assert tok.unk_token_id not in ids
        assert tok.decode(ids) == text


def test_no_mined_example_holds_an_unknown_token() -> None:
    tok = tokenizer.build()
    for seed in range(5):
        for row in Landscapes().examples(seed):
            assert tok.unk_token_id not in tok(row.prompt + row.completion)["input_ids"]
