"""A mined dataset as token ids. Loss falls on the completion (and its end token) alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.prompts import ANCHOR_TOKEN, DIGEST_VERSIONS
from finetune import shared_prompt

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

HELD_OUT = 0.02
"""Share of a dataset's units that is held out, at most (but one unit)."""

Unit = tuple[str, str, int]
"""What is held out as a whole, by its provenance: a landscape, a search of a table, a past run."""
_PROVENANCE = ["miner", "source", "seed"]


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


def held_out(folders: Sequence[Path], most: int) -> frozenset[Unit]:
    """The last units of each dataset: at most 2 % of them (but one), and with about `most` examples. No phase trains on
    any of them, whichever dataset it learns from. None where `most` is 0, none of a dataset of a single unit."""
    return frozenset(unit for folder in folders for unit in _last_units(folder, most))


def _last_units(folder: Path, most: int) -> list[Unit]:
    import pyarrow.parquet as pq

    columns = [pq.read_table(shard, columns=_PROVENANCE).to_pydict() for shard in shards(folder)]
    counts = Counter(unit for part in columns for unit in _units(part))
    allowed = 0 if most == 0 or len(counts) < 2 else max(1, int(HELD_OUT * len(counts)))
    last: list[Unit] = []
    for unit in reversed(counts):
        if len(last) == allowed or (last and sum(counts[one] for one in [*last, unit]) > most):
            break
        last.append(unit)
    return last


def shards(folder: Path) -> list[Path]:
    """The dataset's files, in order."""
    return sorted(folder.glob("part-*.parquet"))


def load(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    role: str | None,
    cache: Path,
    *,
    generator_share: float = 1.0,
    optimum_only: bool = False,
    longest: int | None = None,
    held: frozenset[Unit] = frozenset(),
    answers: int | None = None,
) -> Dataset:
    """The examples of a role (None: both, with this share of the Generator's) with columns input_ids, labels, length,
    starts; tokenized once into `cache`. `optimum_only` ends each answer after its first anchor; `longest`: tokens that
    an example may have; `held`: units that are left out; `answers` to a prompt that are taken (None: all there are),
    one behind the other, the prompt read once for all of them: see `finetune.shared_prompt`."""
    from datasets import Dataset, disable_progress_bars, load_from_disk

    name = f"tokens-{role or 'both'}-{generator_share}" + ("-optimum" if optimum_only else "")
    name += "" if answers is None else f"-{answers}"
    name += ("" if longest is None else f"-{longest}") + ("-training" if held else "")
    target = cache / name
    if target.exists():
        return load_from_disk(str(target))
    disable_progress_bars()
    rows = Dataset.from_parquet([str(p) for p in shards(folder)], cache_dir=str(cache / "parquet"))
    if held:
        rows = rows.filter(
            lambda *unit: [one not in held for one in zip(*unit, strict=True)],
            input_columns=list(_PROVENANCE),
            batched=True,
        )
    if role is not None:
        rows = rows.filter(lambda roles: [r == role for r in roles], input_columns=["role"], batched=True)
    if generator_share < 1:
        rows = rows.filter(
            lambda roles, at: _keep(roles, at, generator_share),
            input_columns=["role"],
            batched=True,
            with_indices=True,
        )
    if len(rows) == 0:
        raise UserError(f"{folder} holds no examples for the role {role!r}")
    tokens = rows.map(
        lambda batch: _tokenize(batch, tokenizer, optimum_only, answers),
        batched=True,
        remove_columns=rows.column_names,
        num_proc=_processes(len(rows)),
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


def validation(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    role: str | None,
    held: frozenset[Unit],
    *,
    optimum_only: bool = False,
    longest: int | None = None,
) -> list[dict[str, list[int]]]:
    """The examples of the held-out units, tokenized as `load` does; none where the dataset has none of them."""
    import pyarrow.parquet as pq

    asked = [("seed", "in", {seed for _, _, seed in held})]
    told = [pq.read_table(s, columns=["role", "messages", *_PROVENANCE], filters=asked) for s in shards(folder) if held]
    rows = [row for table in told for row in table.to_pylist()]
    rows = [r for r in rows if tuple(r[c] for c in _PROVENANCE) in held and role in (None, r["role"])]
    if not rows:
        return []
    tokens = _tokenize({"messages": [row["messages"] for row in rows]}, tokenizer, optimum_only)
    pairs = zip(tokens["input_ids"], tokens["labels"], strict=True)
    return [{"input_ids": i, "labels": answers} for i, answers in pairs if longest is None or len(i) <= longest]


def _units(batch: dict[str, list[Any]]) -> list[Unit]:
    return list(zip(*(batch[column] for column in _PROVENANCE), strict=True))


def _processes(rows: int) -> int | None:
    """How many tokenize; None: this one, as long as starting others would take longer."""
    cores = os.cpu_count() or 1
    return min(16, cores) if rows > 20_000 and cores > 2 else None


def _keep(roles: list[str], positions: list[int], share: float) -> list[bool]:
    """All of the Navigator's examples and this share of the Generator's, spread evenly (a multiplicative hash: the
    roles alternate, so every so many-th row would not do)."""
    spread = [(i * 2654435761 % 2**32) / 2**32 for i in positions]
    return [role == "navigator" or place < share for role, place in zip(roles, spread, strict=True)]


def prompt_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """As the engine reads them: with the beginning that some tokenizers add."""
    ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
    return ids


def answer_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Answers, without the end."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def _tokenize(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerFast, optimum_only: bool, most: int | None = 1
) -> dict[str, list[Any]]:
    asked, told = ([turns[i]["content"] for turns in batch["messages"]] for i in (0, 1))
    others = batch.get("others") or [[]] * len(told)
    texts = [[one, *(more or [])][:most] for one, more in zip(told, others, strict=True)]
    rows = []
    for prompt, ids in zip(prompt_ids(tokenizer, asked), _answers(tokenizer, texts, optimum_only), strict=True):
        rows.append(shared_prompt.joined(prompt, ids))
    return {name: [row[name] for row in rows] for name in ("input_ids", "labels", "length", "starts")}


def _answers(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[Sequence[str]], optimum_only: bool
) -> Iterator[list[list[int]]]:
    """The answers to each prompt as token ids: the first with its end, unless the optimum alone is wanted; the others
    up to the end of their first anchor, which is what they are for."""
    anchor, end = tokenizer.convert_tokens_to_ids(ANCHOR_TOKEN), [tokenizer.eos_token_id]
    flat = iter(answer_ids(tokenizer, [text for group in texts for text in group]))
    for group in texts:
        answers = [next(flat) for _ in group]
        whole = 0 if optimum_only else 1
        yield [a + end for a in answers[:whole]] + [a[: a.index(anchor, 1)] for a in answers[whole:]]
