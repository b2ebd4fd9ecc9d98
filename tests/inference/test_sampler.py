"""The joint sampler by itself: its law, its promises, its refusals. No model: scores are given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas.api import END, Encoding, TextMask, Variable
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces.base import CategoricalSpace
from finetune.tokenizer import build
from inference import vocabulary
from inference.processors import DeadEnd, Sampler
from tests.inference.small import parts

TOKENIZER = build()
VOCABULARY = vocabulary.read(TOKENIZER, len(TOKENIZER), merges=True)
EOS = VOCABULARY.eos
ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
Scores = dict[int, float]


def run(sampler: Sampler, scores: Callable[[str], Scores], n: int, limit: int = 60) -> list[str]:
    """Decode `n` rows with scores that depend on the text so far."""
    sampler.reset()
    texts, done = [""] * n, [False] * n
    ids = torch.zeros((n, 1), dtype=torch.long)
    for _ in range(limit):
        logits = torch.full((n, VOCABULARY.size), -torch.inf)
        for i, text in enumerate(texts):
            for token, score in scores(text).items():
                logits[i, token] = score
        drawn = sampler(ids, logits).argmax(-1)
        ids = torch.cat([ids, drawn[:, None]], 1)
        for i, token in enumerate(drawn.tolist()):
            done[i] = done[i] or token == EOS
            texts[i] += "" if done[i] else VOCABULARY.texts[token] or ""
        if all(done):
            return texts
    raise AssertionError(f"not finished after {limit} tokens: {texts}")


def table(space: CategoricalSpace, rng: Random) -> dict[str, Scores]:
    """A random autoregressive model over the compact spellings."""
    scores: dict[str, Scores] = {}
    for arch in space.all():
        text = space.format(arch, "compact")
        for end in range(0, len(text), 2):
            token = VOCABULARY.ids[text[end : end + 2]]
            scores.setdefault(text[:end], {}).setdefault(token, rng.gauss(0, 0.7))
        scores[text] = {EOS: 0.0}
    return scores


def chance(text: str, scores: dict[str, Scores], mask: TextMask, temperature: float) -> float:
    """Probability of a whole spelling under token-by-token masking, by the definition."""
    result = 1.0
    for end in range(0, len(text), 2):
        weights = {
            VOCABULARY.texts[token]: math.exp(score / temperature)
            for token, score in scores[text[:end]].items()
            if mask.count(text[:end] + (VOCABULARY.texts[token] or ""))
        }
        result *= weights[text[end : end + 2]] / sum(weights.values())
    return result


def sequential_law(
    space: CategoricalSpace, scores: dict[str, Scores], n: int, temperature: float
) -> dict[tuple[str, ...], float]:
    """Probability of every ordered answer of `n` where each completion is drawn after the ones before were excluded."""
    law = {}
    for batch in permutations(space.all(), n):
        mask, result = Remaining(space, "compact"), 1.0
        for arch in batch:
            result *= chance(space.format(arch, "compact"), scores, mask, temperature)
            mask.exclude(arch)
        law[tuple(space.format(arch, "compact") for arch in batch)] = result
    return law


def retry_law(space: CategoricalSpace, scores: dict[str, Scores], temperature: float) -> dict[tuple[str, ...], float]:
    """The same for two completions where a repeated one is drawn again as a whole: near, but not the same."""
    texts = [space.format(arch, "compact") for arch in space.all()]
    single = {text: chance(text, scores, Remaining(space, "compact"), temperature) for text in texts}
    return {(a, b): single[a] * single[b] / (1 - single[a]) for a, b in permutations(texts, 2)}


def test_joint_sampling_follows_the_law_of_sampling_one_after_the_other() -> None:
    variables = [
        Variable("a", ("x", "y")),
        Variable("b", ("x", "y"), ((0, frozenset({1})),)),
        Variable("c", ("x", "y")),
    ]
    space = CategoricalSpace("toy", variables)  # six architectures, of two and three tokens
    scores = table(space, Random(1))
    law = sequential_law(space, scores, 2, 0.8)
    assert sum(law.values()) == pytest.approx(1)
    draws = 3000
    seen = Counter(
        tuple(run(Sampler(VOCABULARY, seed, 0.8, Remaining(space, "compact")), scores.__getitem__, 2))
        for seed in range(draws)
    )
    assert set(seen) <= set(law)

    def chi_square(expected: dict[tuple[str, ...], float]) -> float:
        return sum((seen[batch] - draws * p) ** 2 / (draws * p) for batch, p in expected.items())

    assert chi_square(law) < 62.5  # the 99.97 % point with 29 degrees of freedom
    assert chi_square(retry_law(space, scores, 0.8)) > 62.5  # and the test tells it from a law that is close


def test_without_a_mask_it_draws_from_the_softmax_at_its_temperature() -> None:
    space = CategoricalSpace("toy", [Variable("a", tuple("wxyz"))])
    scores = table(space, Random(2))
    expected = {t: chance(t, scores, Remaining(space, "compact"), 0.5) for t in ("a0", "a1", "a2", "a3")}
    seen = Counter(text for seed in range(40) for text in run(Sampler(VOCABULARY, seed, 0.5), scores.__getitem__, 50))
    assert sum(abs(seen[t] / 2000 - p) for t, p in expected.items()) / 2 < 0.05


@given(space=parts(30), seed=st.integers(0, 2**31), encoding=st.sampled_from(ENCODINGS), merges=st.booleans())
@settings(deadline=None, max_examples=50)
def test_any_tokens_may_spell_and_no_dead_end_arises(
    space: CategoricalSpace, seed: int, encoding: Encoding, merges: bool
) -> None:
    """Pairs and characters mixed, no grammar: rows leap over texts where others stand, still all come out once."""
    expected = sorted(space.format(arch, encoding) for arch in space.all())
    parts_of = {text[i : i + k] for text in expected for i in range(len(text)) for k in (1, 2)}
    among = [EOS, *(VOCABULARY.ids[part] for part in parts_of if part in VOCABULARY.ids)]
    sampler = Sampler(replace(VOCABULARY, merges=merges), seed, 1.0, Remaining(space, encoding))
    assert sorted(run(sampler, lambda _: dict.fromkeys(among, 0.0), space.size)) == expected


def test_a_leap_over_a_waiting_row_needs_room_there() -> None:
    """Found by thought: row 0 stands at `a` and must become `a0`; row 1 taking the pair `a0` would strand it."""
    space = CategoricalSpace("toy", [Variable("a", ("x", "y"))])
    mask = Remaining(space, "compact")
    mask.exclude(space.make((1,)))  # `a0` alone is left, and two rows ask for it
    sampler = Sampler(replace(VOCABULARY, merges=False), 0, 1.0, mask)
    sampler._rows, sampler._drawn = ["a", ""], [VOCABULARY.ids["a"], -1]
    assert not sampler._has_room(1, VOCABULARY.ids["a0"], mask)
    sampler._rows = ["b", ""]
    assert sampler._has_room(1, VOCABULARY.ids["a0"], mask)


def test_contradictions_are_an_error_and_never_a_token() -> None:
    space = CategoricalSpace("toy", [Variable("a", ("x", "y"))])
    with pytest.raises(DeadEnd, match="no token may follow ''"):
        run(Sampler(VOCABULARY, 0, 1.0, Remaining(space, "compact")), lambda _: {VOCABULARY.ids["b0"]: 0.0}, 1)
    with pytest.raises(DeadEnd):
        run(Sampler(VOCABULARY, 0, 0.0), lambda _: {VOCABULARY.ids["b0"]: math.nan}, 1)


def test_a_loop_that_emits_other_tokens_is_refused() -> None:
    sampler = Sampler(VOCABULARY, 0, 1.0)
    ids = torch.zeros((1, 1), dtype=torch.long)
    logits = torch.zeros((1, VOCABULARY.size))
    drawn = int(sampler(ids, logits).argmax())
    other = torch.tensor([[0, (drawn + 1) % VOCABULARY.size]])
    with pytest.raises(RuntimeError, match="did not emit"):
        sampler(other, logits)


def test_only_text_is_ever_drawn() -> None:
    """Padding, unknown and ids beyond the tokenizer spell nothing: they would decode to less than was drawn."""
    wide = vocabulary.read(TOKENIZER, len(TOKENIZER) + 64)
    logits = torch.full((200, wide.size), -5.0)
    silent = [i for i, text in enumerate(wide.texts) if text is None and i != wide.eos]
    assert {TOKENIZER.pad_token_id, TOKENIZER.unk_token_id, wide.size - 1} <= set(silent)
    logits[:, silent] = 50.0
    drawn = Sampler(wide, 0, 1.0)(torch.zeros((200, 1), dtype=torch.long), logits).argmax(-1)
    assert not set(drawn.tolist()) & set(silent)
    assert END not in "".join(text or "" for text in wide.texts)
