"""QLoRA: adapters on a base in 4 bits (bitsandbytes)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from collm_nas.cli import main
from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune import data, loss, quantized, tokenizer
from finetune.bases import Base
from finetune.pretrain import new_model
from finetune.recipes import TINY, Lora

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra qlora)"
)


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "data"
    mine(Landscapes(landscapes=12, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), out)
    return out


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tok = tmp_path_factory.mktemp("base"), tokenizer.build()
    new_model(TINY.shape, tok, 0).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def gradients(model: Any, rows: list[dict[str, list[int]]]) -> torch.Tensor:
    """Of the adapter's weights, in one vector."""
    from torch.nn.functional import cross_entropy

    model.train()
    model.zero_grad()
    for row in rows:
        logits_NV, targets_N = loss.target_logits(model, {c: torch.tensor([row[c]]) for c in ("input_ids", "labels")})
        cross_entropy(logits_NV.float(), targets_N).backward()
    found = [w.grad.flatten() for _, w in sorted(model.named_parameters()) if w.requires_grad]
    return torch.cat(found).double()


def adapted(model: Any) -> Any:
    from peft import get_peft_model

    from finetune.trainer import _peft

    settings = _peft(Lora(rank=4), ())
    settings.init_lora_weights = False  # else B is zero, and A has no gradient
    torch.manual_seed(1)
    return get_peft_model(model, settings)


def dequantized(base: Path) -> Any:
    """A float32 model whose weights are what the 4 bits stand for."""
    from bitsandbytes.functional import dequantize_4bit

    small, _, _ = Base(base, base, "").load("nf4")
    plain, _, _ = Base(base, base, "").load(dtype=torch.float32)
    for name, module in small.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
            plain.get_submodule(name).weight.data = weight
    return plain


@needs_bitsandbytes
def test_gradients_are_right_after_the_model_was_asked(mined: Path, base: Path) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes packs weights anew in the first pass in evaluation mode (generating,
    validating); LoRA's gradients were then noise, without an error."""
    from transformers import GenerationConfig

    rows = data.validation(mined, tokenizer.build(), "navigator", data.held_out([mined], 400))
    small, tok, _ = Base(base, base, "").load("nf4")
    assert quantized.is_quantized(small)
    packs = [m.support_avx512bf16_for_cpu for m in small.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert len(packs) == 14 and not any(packs), "said here too for machines whose CPU has no AVX512-BF16"
    model = adapted(small).eval()
    greedy = GenerationConfig(max_new_tokens=4, do_sample=False, pad_token_id=tok.pad_token_id)
    with torch.no_grad():
        model.generate(input_ids=torch.tensor([rows[0]["input_ids"][:40]]), generation_config=greedy)
    ours, true = gradients(model, rows), gradients(adapted(dequantized(base)), rows)
    assert torch.nn.functional.cosine_similarity(ours, true, dim=0) > 0.999
    assert float(ours.norm() / true.norm()) == pytest.approx(1, abs=0.01)


@needs_bitsandbytes
def test_the_command_tunes_on_nf4_and_says_so(mined: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tune = ["finetune", "--recipe", "tiny", "--dataset", str(mined), "--out", str(tmp_path / "out")]
    assert main([*tune, "--quantize", "nf4"]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["quantize"], manifest["recipe"]["quantize"]) == ("nf4", "nf4")
    assert "--quantize nf4" in (tmp_path / "out" / "README.md").read_text()
    base = load_file(tmp_path / "out" / "base" / "model.safetensors")
    assert {w.dtype for w in base.values()} == {torch.float32}, "the base itself is kept whole"
    adapter = load_file(tmp_path / "out" / "navigator" / "adapter_model.safetensors")
    assert {w.dtype for w in adapter.values()} == {torch.float32}
    assert all(w.abs().sum() > 0 for w in adapter.values()), "A and B have moved"


def test_what_cannot_be_is_said(
    mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = ["finetune", "--recipe", "tiny", "--dataset", str(mined), "--out", str(tmp_path / "out")]
    assert main([*tune, "--quantize", "2bit"]) == 2
    assert "--quantize '2bit' is unknown; legal: nf4" in capsys.readouterr().err
    monkeypatch.setattr("finetune.quantized.find_spec", lambda name: None)
    assert main([*tune, "--quantize", "nf4"]) == 2
    assert "needs the package bitsandbytes, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
