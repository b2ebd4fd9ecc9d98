"""A mined dataset as token ids. Loss falls on the completion (and its end token) alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.prompts import ANCHOR_TOKEN, DIGEST_VERSIONS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

IGNORED = -100


def read_manifest(folder: Path) -> dict[str, Any]:
    """The dataset's manifest; UserError if there is none, it is of another digest version or its mining is
    unfinished."""
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"{folder} is no dataset (no manifest.json); make one with: collm-nas mine --out {folder}")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest.get("digest_version") not in DIGEST_VERSIONS:
        found, known = manifest.get("digest_version"), " and ".join(map(str, DIGEST_VERSIONS))
        raise UserError(f"{folder} was mined with digest version {found}, but this program knows {known}; mine again")
    if "shards" not in manifest:
        raise UserError(f"mining of {folder} is not finished; run the same collm-nas mine command again, it resumes")
    return manifest


def load(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    role: str | None,
    cache: Path,
    *,
    generator_share: float = 1.0,
    optimum_only: bool = False,
    longest: int | None = None,
) -> Dataset:
    """The examples of a role (None: both, with this share of the Generator's) with columns input_ids, labels, length;
    tokenized once into `cache`. `optimum_only` ends each answer after its first anchor; `longest`: tokens that an
    example may have."""
    from datasets import Dataset, disable_progress_bars, load_from_disk

    name = f"tokens-{role or 'both'}-{generator_share}" + ("-optimum" if optimum_only else "")
    name += "" if longest is None else f"-{longest}"
    target = cache / name
    if target.exists():
        return load_from_disk(str(target))
    disable_progress_bars()
    shards = sorted(str(p) for p in folder.glob("part-*.parquet"))
    rows = Dataset.from_parquet(shards, columns=["role", "messages"], cache_dir=str(cache / "parquet"))
    if role is not None:
        rows = rows.filter(lambda batch: [r == role for r in batch["role"]], batched=True)
    if generator_share < 1:
        rows = rows.filter(lambda batch, at: _keep(batch["role"], at, generator_share), batched=True, with_indices=True)
    if len(rows) == 0:
        raise UserError(f"{folder} holds no examples for the role {role!r}")
    tokens = rows.map(
        lambda batch: _tokenize(batch, tokenizer, optimum_only),
        batched=True,
        remove_columns=rows.column_names,
    )
    if longest is not None:
        tokens = tokens.filter(lambda batch: [n <= longest for n in batch["length"]], batched=True)
        if len(tokens) == 0:
            raise UserError(
                f"no example in {folder} has at most {longest} tokens, as the recipe wants; mine smaller spaces"
            )
    part = cache / f"{name}.part"
    tokens.save_to_disk(str(part))
    part.rename(target)
    return load_from_disk(str(target))


def _keep(roles: list[str], positions: list[int], share: float) -> list[bool]:
    """All of the Navigator's examples and this share of the Generator's, spread evenly (a multiplicative hash: the
    roles alternate, so every so many-th row would not do)."""
    spread = [(i * 2654435761 % 2**32) / 2**32 for i in positions]
    return [role == "navigator" or place < share for role, place in zip(roles, spread, strict=True)]


def _tokenize(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerFast, optimum_only: bool
) -> dict[str, list[Any]]:
    asked, told = ([turns[i]["content"] for turns in batch["messages"]] for i in (0, 1))
    prompts = tokenizer(asked)["input_ids"]  # as the engine reads them: with the beginning that some tokenizers add
    answers = tokenizer(told, add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id]
    if optimum_only:
        anchor = tokenizer.convert_tokens_to_ids(ANCHOR_TOKEN)
        answers = [a[: a.index(anchor, 1)] for a in answers]
        end = []
    ids = [p + a + end for p, a in zip(prompts, answers, strict=True)]
    labels = [[IGNORED] * len(p) + a + end for p, a in zip(prompts, answers, strict=True)]
    return {"input_ids": ids, "labels": labels, "length": [len(i) for i in ids]}
