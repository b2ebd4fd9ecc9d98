"""Pairs of answers to one prompt, as `collm-nas mine --source hindsight` writes them: which datasets have them, and
their token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from finetune import data
from finetune.recipes import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORSE = "rejected"
"""The column of the worse answer, which other datasets lack."""


def check_kind(folder: Path, recipe: Recipe) -> None:
    """UserError for a dataset of pairs where the recipe learns from examples, and the other way round."""
    if recipe.preference is None and _shards(folder):
        raise UserError(
            f"{folder} holds pairs of answers, which --recipe dpo compares; the recipe {recipe.name!r} learns from "
            "examples of the other sources of collm-nas mine"
        )
    if recipe.preference is not None and not _shards(folder):
        raise UserError(
            f"{folder} holds no pairs of answers, which the recipe {recipe.name!r} compares; mine some with: "
            "collm-nas mine --source hindsight --model DIR"
        )


def _shards(folder: Path) -> list[Path]:
    """The files with pairs: one without any has no columns."""
    import pyarrow.parquet as pq

    return [shard for shard in data.shards(folder) if WORSE in pq.read_schema(shard).names]


def load(folders: Sequence[Path], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[list[int]]]:
    """All pairs, as columns of token ids; prompts and answers are tokenized as those of examples are."""
    import pyarrow.parquet as pq

    columns = ["messages", WORSE]
    rows: list[dict[str, Any]] = [
        row
        for folder in folders
        for shard in _shards(folder)
        for row in pq.read_table(shard, columns=columns).to_pylist()
    ]
    asked, better = ([row["messages"][i]["content"] for row in rows] for i in (0, 1))
    end = [tokenizer.eos_token_id]
    return {
        "prompt_ids": data.prompt_ids(tokenizer, asked),
        "chosen_ids": [ids + end for ids in data.answer_ids(tokenizer, better)],
        "rejected_ids": [ids + end for ids in data.answer_ids(tokenizer, [row[WORSE] for row in rows])],
    }
