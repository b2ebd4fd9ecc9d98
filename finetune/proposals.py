"""How good a Navigator's proposals are, on landscapes of seeds that are kept for choosing settings.

The model is shown a digest of random points of each landscape and writes first anchors: one of the likeliest legal
choice of every variable, and several at temperature 1, as a search samples them. *Regret* is (optimum - value) /
(optimum - median), without noise: 0 at the optimum, 1 for a random point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from collm_nas import prompts
from collm_nas.api import Architecture
from collm_nas.evaluators.landscape import VALIDATION, Family, LandscapeEvaluator, draw
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS, CategoricalSpace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LANDSCAPES = 24
POINTS = 40
BATCH = 5
"""Anchors of which the best counts, as in a round of a search."""
BATCHES = 4
_FIRST_SEED = VALIDATION + 1_000_000  # apart from those of `bench --problem validation`
# Every variable is active, so that an anchor has one token for each; short enough for recipes with a longest example.
_FAMILY = Family(variables=(5, 8), choices=(2, 5), conditional=0.0, capped=0.0)


@dataclass(frozen=True, slots=True)
class Question:
    """A landscape, what the model reads of it, and two regrets that need no model: of the best point it is shown, and
    of the choices that the evidence lists first."""

    landscape: LandscapeEvaluator
    prompt: str
    shown: float
    listed: float

    def regret(self, arch: Architecture) -> float:
        """Of one architecture."""
        return _regret(self.landscape, arch)


@lru_cache
def questions(digest_version: int) -> tuple[Question, ...]:
    """The same in every run."""
    return tuple(_question(_FIRST_SEED + i, digest_version) for i in range(LANDSCAPES))


def _question(seed: int, digest_version: int) -> Question:
    made = draw(seed, family=_FAMILY)
    rng = Random(seed)
    archs = list(dict.fromkeys(made.space.sample(rng) for _ in range(POINTS)))
    values = [found.fitness for found in made.evaluate(archs)]
    prompt = prompts.digest(made.space, archs, values, version=digest_version)
    best = max(zip(values, archs, strict=True), key=lambda one: one[0])[1]
    return Question(made, prompt, _regret(made, best), _regret(made, listed_first(made.space, prompt)))


def _regret(made: LandscapeEvaluator, arch: Architecture) -> float:
    return (made.optimum - made.report(arch)["true"]) / (made.optimum - made.median)


def listed_first(space: CategoricalSpace, prompt: str) -> Architecture:
    """The first line of a digest's evidence, which has the most promising choice of every variable."""
    line = prompt.partition("<r0>")[2].partition("<r1>")[0]
    return space.parse(re.sub("<[^>]*>", "", line), "compact")


def first_anchors(model: Any, tokenizer: PreTrainedTokenizerFast, question: Question) -> list[Architecture]:
    """`BATCHES * BATCH` architectures as the model writes them first, at temperature 1 among the legal choices, after
    one of its likeliest choice of each variable in turn. The same for the same weights."""
    import torch

    space, rows, cache = question.landscape.space, 1 + BATCHES * BATCH, None
    ids_BT = torch.tensor([tokenizer(question.prompt + prompts.ANCHOR_TOKEN)["input_ids"]], device=model.device)
    rng = torch.Generator(model.device).manual_seed(0)
    columns: list[list[int]] = []
    with torch.no_grad():
        for letter, variable in zip(LETTERS, space.variables, strict=False):
            out = model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
            pairs = tokenizer.convert_tokens_to_ids([letter + c for c in CHOICE_CHARS[: len(variable.choices)]])
            logits_BV = out.logits[:, -1, pairs].float()
            if cache is None:  # the prompt is read once
                out.past_key_values.batch_repeat_interleave(rows)
                logits_BV = logits_BV.expand(rows, -1)
            cache = out.past_key_values
            drawn = logits_BV.softmax(-1).multinomial(1, generator=rng).flatten()
            drawn[0] = logits_BV[0].argmax()
            columns.append(drawn.tolist())
            ids_BT = torch.tensor(pairs, device=model.device)[drawn, None]
    return [Architecture(space.name, choices) for choices in zip(*columns, strict=True)]


def measure(model: Any, tokenizer: PreTrainedTokenizerFast, digest_version: int) -> dict[str, float]:
    """Mean regret of the model's likeliest first anchors (`regret`), of those at temperature 1 (`regret_sampled`) and
    of the best of `BATCH` of these (`regret_batch`), of the best points that it was shown (`regret_shown`), and of what
    was listed first (`regret_listed`)."""
    asked = questions(digest_version)
    found = []
    for one in asked:
        likeliest, *drawn = (one.regret(arch) for arch in first_anchors(model, tokenizer, one))
        best = [min(drawn[i : i + BATCH]) for i in range(0, len(drawn), BATCH)]
        found.append((likeliest, fmean(drawn), fmean(best), one.shown, one.listed))
    names = ("regret", "regret_sampled", "regret_batch", "regret_shown", "regret_listed")
    return {name: fmean(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}
