"""How good a Navigator's proposals are, on landscapes of seeds that are kept for choosing settings.

The model is shown a digest of random points of each landscape and writes its first anchor, greedily among the legal
choices. Its *regret* is (optimum - value) / (optimum - median), without noise: 0 at the optimum, 1 for a random point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from collm_nas import prompts
from collm_nas.api import Architecture
from collm_nas.evaluators.landscape import VALIDATION, Family, LandscapeEvaluator, draw
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS, CategoricalSpace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LANDSCAPES = 24
POINTS = 40
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


def first_anchor(model: Any, tokenizer: PreTrainedTokenizerFast, question: Question) -> Architecture:
    """The architecture that the model writes first: of each variable in turn the likeliest choice."""
    import torch

    space, cache = question.landscape.space, None
    ids = tokenizer(question.prompt + prompts.ANCHOR_TOKEN)["input_ids"]
    choices: list[int] = []
    with torch.no_grad():
        for letter, variable in zip(LETTERS, space.variables, strict=False):
            ids_1T = torch.tensor([ids], device=model.device)
            out = model(input_ids=ids_1T, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            pairs = tokenizer.convert_tokens_to_ids([letter + c for c in CHOICE_CHARS[: len(variable.choices)]])
            choices.append(int(out.logits[0, -1, pairs].argmax()))
            ids = [pairs[choices[-1]]]
    return Architecture(space.name, tuple(choices))


def measure(model: Any, tokenizer: PreTrainedTokenizerFast, digest_version: int) -> dict[str, float]:
    """Mean regret of the model's first anchors, of the best points that it was shown, and of what was listed first."""
    asked = questions(digest_version)
    regrets = [one.regret(first_anchor(model, tokenizer, one)) for one in asked]
    return {
        "regret": sum(regrets) / len(asked),
        "regret_shown": sum(one.shown for one in asked) / len(asked),
        "regret_listed": sum(one.listed for one in asked) / len(asked),
    }
