"""Bases in 8 and in 4 bits (bitsandbytes), which change what the model says, never what it may say."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from collm_nas import spaces
from collm_nas.api import Constraint, Request, UserError
from collm_nas.constraints.remaining import within
from inference import engines

SPACE = spaces.load("digits-cells")
MASKED = Request(
    "generator",
    "<a>a0b1<gen>",
    6,
    1,
    1.0,
    40,
    Constraint("regex", SPACE.regex("compact")),
    within(SPACE, "compact", {}, SPACE.cost),
)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra qlora)")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_fewer_bits_answer_legally_with_adapters(model_folder: Path, bits: str) -> None:
    engine = engines.load("transformers", model_folder, quantize=bits)
    assert engine.describe()["quantize"] == bits
    texts = [answer.text for answer in engine.generate(MASKED)]
    assert len(set(texts)) == 6
    assert all(SPACE.format(SPACE.parse(text, "compact"), "compact") == text for text in texts)
    whole = engines.load("transformers", model_folder)
    first, other = (e.generate(MASKED)[0].logp for e in (engine, whole))
    assert first is not None and other is not None and first != other


def test_what_cannot_be_quantized_is_said(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'2bit' is unknown; legal: 8bit, 4bit"):
        engines.load("transformers", model_folder, quantize="2bit")
    monkeypatch.setattr("inference.engines.transformers.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        engines.load("transformers", model_folder, quantize="4bit")
