"""What adapters are put on: a base trained from scratch, that of another model of ours, or a causal language model from
elsewhere whose tokenizer gets our tokens."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from finetune import quantized, tokenizer
from finetune.job import Job
from finetune.pretrain import pretrain
from finetune.recipes import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Base:
    """Where the weights and the tokenizer lie. `named`: how the model folder names a base that is not in it;
    `sources`: what it has seen; `about`: a sentence for the card."""

    path: Path
    tokenizer: Path
    about: str
    named: str | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def load(
        self, quantize: str | None = None, **how: Any
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[int]]:
        """Model, tokenizer, and the ids of tokens that are new to the model. `quantize`: of `quantized.KINDS`."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tok = AutoTokenizer.from_pretrained(self.tokenizer, local_files_only=True)
        how |= {} if quantize is None else quantized.arguments(quantize)
        model = AutoModelForCausalLM.from_pretrained(self.path, local_files_only=True, **how)
        if quantize is not None:
            quantized.keep_gradients(model)
        return model, tok, _grow(model, tok, self.path) if len(tok) > model.config.vocab_size else []


def check_trains(recipe: Recipe) -> None:
    """UserError where the recipe trains no base."""
    if not recipe.base:
        raise UserError(f"the recipe {recipe.name!r} tunes adapters alone; say of which model: --model DIR")


def from_scratch(job: Job) -> Base:
    """The recipe's own base, trained into the job's folder."""
    recipe, shape = job.recipe, job.recipe.shape
    job.say("base: " + ", then ".join(f"{t.stop or t.steps} steps of {t.batch} examples" for t in recipe.base))
    base = pretrain(job)
    about = (
        f"A Qwen3-architecture base ({shape.layers} layers, width {shape.width}, {shape.heads} heads of "
        f"{shape.head_size}) with its own tokenizer, trained from scratch"
    )
    return Base(base, base, about)


def given(model: Path, name: str, digest_version: int, out: Path) -> Base:
    """The base of a model folder of ours, or a folder of Hugging Face weights as `name` calls it.

    Raises UserError where it is neither, or a model of ours that reads another version of the digest.
    """
    if not model.is_dir():
        raise UserError(f"--model {name}: there is no such folder")
    manifest = model / "manifest.json"
    if manifest.is_file() and (model / "base" / "config.json").is_file():
        return _ours(model, name, json.loads(manifest.read_text()), digest_version, out)
    if not (model / "config.json").is_file():
        raise UserError(
            f"--model {name} is no model folder: it has neither a config.json nor a manifest.json with a base"
        )
    return _foreign(model, name, out)


def _ours(model: Path, name: str, manifest: dict[str, Any], digest_version: int, out: Path) -> Base:
    """A copy of its base under `out`, by hard links where the file system has them; whole or not at all."""
    if manifest["digest_version"] != digest_version:
        raise UserError(
            f"--model {name} reads digests of version {manifest['digest_version']}, the dataset has version "
            f"{digest_version}; mine it again with --digest-version {manifest['digest_version']}"
        )
    base = out / "base"
    copy(model / "base", base)
    return Base(base, base, f"The base of {name}", sources=manifest["sources"])


def copy(source: Path, target: Path) -> None:
    """A copy by hard links where the file system has them, unless it is there; whole or not at all."""
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, part, copy_function=_link)
        part.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _foreign(model: Path, name: str, out: Path) -> Base:
    """A language model by its own path; only its extended tokenizer goes into `out`."""
    from transformers import AutoTokenizer

    extended = out / "tokenizer"
    if not extended.exists():
        tok = AutoTokenizer.from_pretrained(model, local_files_only=True)
        tokenizer.extend(tok)
        out.mkdir(parents=True, exist_ok=True)
        part = extended.with_suffix(".part")
        tok.save_pretrained(part)
        part.rename(extended)
    # A model that a package carries goes by its name, which holds on every machine; a folder by the way to it.
    by_path = Path(name).expanduser().resolve() == model.resolve()
    named = os.path.relpath(model.resolve(), out.resolve()) if by_path else name
    return Base(model, extended, f"{name}, a language model that was trained by others,", named=named)


def _grow(model: PreTrainedModel, tok: PreTrainedTokenizerFast, original: Path) -> list[int]:
    """Rows for the tokens that are new to the model, each the mean of what the model reads in its place; their ids."""
    import torch
    from transformers import AutoTokenizer

    before = AutoTokenizer.from_pretrained(original, local_files_only=True)
    new = [i for token, i in sorted(tok.get_added_vocab().items(), key=lambda one: one[1]) if i >= len(before)]
    model.resize_token_embeddings(len(tok), pad_to_multiple_of=64, mean_resizing=False)
    weight_VD = model.get_input_embeddings().weight
    # Else peft finds another vocabulary at that place, and saves all embeddings with each checkpoint and adapter.
    model.config._name_or_path = model.name_or_path = ""
    with torch.no_grad():
        for i in new:
            pieces = before(tok.convert_ids_to_tokens(i), add_special_tokens=False)["input_ids"]
            weight_VD[i] = weight_VD[pieces].mean(0)
    return new
