"""Adapters on a language model from elsewhere: our marks and pairs become tokens of its own tokenizer."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from collm_nas.cli import main

SMALL = ["--large", "0", "--huge", "0", "--real", "0"]  # landscapes of few variables

TEXT = ["The best architecture has a wide stage.", "Search on, change little, and keep what was good: 0123456789 <>"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte-level BPE tokenizer and a chat template, as a folder of Hugging Face's."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("foreign") / "llama"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|im_start|>", "<|im_end|>"]
    core.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    )
    tok = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tok.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tok.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tok.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(base: Path) -> Path:
    work = base.parent
    mine = [
        "mine",
        "--landscapes",
        "10",
        "--large",
        "0",
        "--huge",
        "0",
        "--processes",
        "1",
        "--out",
        str(work / "data"),
    ]
    assert main(mine) == 0
    tune = ["finetune", "--model", str(base), "--recipe", "tiny", "--dataset", str(work / "data")]
    assert main([*tune, "--out", str(work / "tuned")]) == 0
    return work / "tuned"


def test_it_searches_with_what_it_learnt(tuned: Path) -> None:
    run = tuned.parent / "run"
    assert main(["search", "--model", str(tuned), "--budget", "14", "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["counts"] == dict.fromkeys(("attempted", "valid", "unique", "evaluated"), 14)
    assert result["counts_by_proposer"]["model"]["evaluated"] == 4


def test_pairs_are_single_tokens_that_were_trained(tuned: Path, base: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    tok = AutoTokenizer.from_pretrained(tuned / "tokenizer", local_files_only=True)
    assert tok.tokenize("<digest><ea0>b1<nav>") == ["<digest>", "<ea0>", "b1", "<nav>"]
    assert tok.chat_template is None
    rows = {
        name: w for name, w in load_file(tuned / "navigator" / "adapter_model.safetensors").items() if "token" in name
    }
    assert [w.shape[0] for w in rows.values()] == [len(tok) - len(AutoTokenizer.from_pretrained(base))]


def test_the_engine_reads_each_role_s_own_tokens(tuned: Path) -> None:
    """The rows of the new tokens are not in the base: what was trained must be what the engine embeds."""
    import torch
    from safetensors.torch import load_file

    from inference.engines.transformers import create

    engine = create(tuned)
    new = len(engine.tokenizer) - 1
    for role in ("navigator", "generator"):
        engine.model.set_adapter(role)
        weights = load_file(tuned / role / "adapter_model.safetensors")
        (rows,) = (w for name, w in weights.items() if "token" in name)
        read = engine.model.get_base_model().get_input_embeddings()(torch.tensor([new]))[0]
        assert torch.equal(read, rows[-1])


def test_embeddings_are_put_together_once_until_they_change(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from inference.engines.transformers import create

    engine = create(tuned)
    ids = torch.tensor([engine.tokenizer("<digest><ea0>b1<r0>a0 best<nav>")["input_ids"]])
    known = len(engine.tokenizer)  # the rows beyond are padding that nothing learns
    base: Any = AutoModelForCausalLM.from_pretrained(engine.folder.base)
    base.resize_token_embeddings(len(engine.tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    plain = PeftModel.from_pretrained(base, tuned / "navigator", adapter_name="navigator").eval()
    plain.load_adapter(tuned / "generator", adapter_name="generator")
    copies: list[Any] = []
    copy = torch.Tensor.index_copy
    monkeypatch.setattr(torch.Tensor, "index_copy", lambda *a, **k: copies.append(0) or copy(*a, **k))
    for role in ("navigator", "generator", "navigator", "generator"):
        for model in (engine.model, plain):
            model.set_adapter(role)
        with torch.no_grad():
            before = len(copies)
            ours = engine.model(input_ids=ids).logits[..., :known]
            made = len(copies) - before
            assert torch.equal(ours, plain(input_ids=ids).logits[..., :known])
    assert made == 0
    for model in (engine.model, plain):
        (rows,) = {id(w): w for name, w in model.named_parameters() if "delta.generator" in name}.values()
        with torch.no_grad():
            rows += 1.0
    with torch.no_grad():
        changed = engine.model(input_ids=ids).logits[..., :known]
        assert torch.equal(changed, plain(input_ids=ids).logits[..., :known]) and not torch.allclose(changed, ours)


def test_merged_models_say_what_base_and_adapter_say(tuned: Path, base: Path) -> None:
    """The rows of the new tokens, which only the adapters have, are in the merged embeddings."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.bases import Base

    again = ["finetune", "--model", str(base), "--recipe", "tiny", "--dataset", str(base.parent / "data"), "--merge"]
    assert main([*again, "--out", str(tuned)]) == 0
    for role in ("navigator", "generator"):
        folder = tuned / "merged" / role
        tok = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        merged = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        ids = torch.tensor([tok("<digest><ea0>b1<r0>a0 best<nav>")["input_ids"]])
        model, _, _ = Base(base, tuned / "tokenizer", "").load()
        both = PeftModel.from_pretrained(model, tuned / role).eval()
        with torch.no_grad():
            ours, theirs = merged(input_ids=ids).logits, both(input_ids=ids).logits
            with both.disable_adapter():
                untuned = both(input_ids=ids).logits
        assert merged.config.vocab_size == len(tok), "no rows that no token has"
        theirs, untuned = theirs[..., : len(tok)], untuned[..., : len(tok)]
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
        assert not torch.allclose(ours, untuned, atol=1e-4)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra qlora)")
def test_a_base_in_4_bits_learns_the_new_tokens_too(tuned: Path, base: Path) -> None:
    """Its matrices are narrower than a block of bitsandbytes; its embeddings grow, and are not quantised."""
    from safetensors.torch import load_file

    out = tuned.parent / "nf4"
    tune = ["finetune", "--model", str(base), "--recipe", "tiny", "--dataset", str(base.parent / "data"), "--merge"]
    assert main([*tune, "--quantize", "nf4", "--out", str(out)]) == 0
    assert json.loads((out / "manifest.json").read_text())["quantize"] == "nf4"
    ours, whole = (load_file(folder / "navigator" / "adapter_model.safetensors") for folder in (out, tuned))
    assert {name: w.shape for name, w in ours.items()} == {name: w.shape for name, w in whole.items()}
    assert main(["search", "--model", str(out), "--budget", "12", "--out", str(tuned.parent / "nf4-run")]) == 0


def test_the_folder_names_its_base_and_moves_with_it(tuned: Path) -> None:
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["base"] == "../llama"
    assert not (tuned / "base").exists()
    assert (
        json.loads((tuned / "navigator" / "adapter_config.json").read_text())["base_model_name_or_path"] == "../llama"
    )
    assert "trained by others" in (tuned / "README.md").read_text()


def test_examples_too_long_for_the_recipe_are_left_out(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--dataset", str(base.parent / "data")]
    assert main(["finetune", "--model", str(base / "none"), *data, "--out", str(base.parent / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["finetune", "--model", str(base.parent), *data, "--out", str(base.parent / "none")]) == 2
    assert "is no model folder" in capsys.readouterr().err
    assert not (base.parent / "none").exists()


def test_its_navigator_goes_on_learning_by_reinforcement(tuned: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    stage = (
        "{steps: 2, searches: 2, points: 1, group: 4, longest: 10, warmup: 0, large: 0.5, huge: 0, real: 0, beta: 0.1}"
    )
    (tmp_path / "config.yaml").write_text(f"reinforcement: {stage}")
    line = ["finetune", "--recipe", "grpo", "--model", str(tuned), "--config", str(tmp_path / "config.yaml")]
    assert main([*line, "--out", str(tmp_path / "deeper" / "on")]) == 0
    new = tmp_path / "deeper" / "on"
    before, after = (load_file(folder / "navigator" / "adapter_model.safetensors") for folder in (tuned, new))
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before if "token" in name), "new tokens learn, too"
    assert main(["search", "--model", str(new), "--budget", "15", "--out", str(tmp_path / "run")]) == 0


def test_its_navigator_goes_on_learning_from_pairs(tuned: Path, tmp_path: Path) -> None:
    """trl makes its reference without the weights of new tokens: with these it starts at the loss of a coin."""
    from safetensors.torch import load_file

    few = ["--landscapes", "8", "--digests", "2", "--longest", "15", "--strategies", "4", "--batches", "1"]
    small = ["--margin", "0", "--large", "0", "--huge", "0", "--real", "0", "--processes", "1"]
    mine = ["mine", "--source", "hindsight", "--model", str(tuned), *few, *small]
    assert main([*mine, "--out", str(tmp_path / "pairs")]) == 0
    (tmp_path / "config.yaml").write_text("preference: {steps: 2, batch: 2, warmup: 0, log_every: 1}")
    line = ["finetune", "--recipe", "dpo", "--model", str(tuned), "--dataset", str(tmp_path / "pairs")]
    new = tmp_path / "deeper" / "on"
    assert main([*line, "--config", str(tmp_path / "config.yaml"), "--out", str(new)]) == 0
    first = json.loads((new / "navigator" / "loss.json").read_text())[0]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-4) and first["margin"] == pytest.approx(0, abs=1e-4)
    before, after = (load_file(folder / "navigator" / "adapter_model.safetensors") for folder in (tuned, new))
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before if "token" in name), "new tokens learn, too"
