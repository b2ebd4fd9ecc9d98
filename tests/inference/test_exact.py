"""Sampling what is allowed: the exact law, how far masking is from it, and what an answer says about its chances."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collm_nas.api import END, Constraint, Encoding, Request, UserError, Variable
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces.base import CategoricalSpace
from inference import backends, engines
from inference.engines.transformers import TransformersEngine
from inference.exact import Tree
from inference.law import law
from inference.vocabulary import Vocabulary
from tests.inference.small import parts
from tests.inference.test_sampler import EOS, VOCABULARY, Scores, sequential_law, table

PROMPT = "<a>a0b1<gen>"
SPACE = CategoricalSpace("toy", [Variable(f"v{i}", tuple("wxyz")) for i in range(3)])
TEXTS = [SPACE.format(arch, "compact") for arch in SPACE.all()]
Ways = Callable[..., TransformersEngine]


@pytest.fixture(scope="module")
def taught(model_folder: Path) -> TransformersEngine:
    """The tiny model, taught to write architectures of SPACE, with favourites: about two answers in three are legal."""
    loaded = engines.load("transformers", model_folder)
    assert isinstance(loaded, TransformersEngine)
    rng = Random(3)
    weights = [rng.random() ** 3 for _ in TEXTS]
    rows = rng.choices(TEXTS, weights, k=600) + ["a0b9", "a7"] * 60
    encode = loaded.tokenizer
    start = encode(PROMPT)["input_ids"]
    width = len(start) + 4
    ids = torch.full((len(rows), width), EOS)
    for i, text in enumerate(rows):
        row = start + encode(text)["input_ids"]
        ids[i, : len(row)] = torch.tensor(row)
    ends = ids[:, len(start) :].eq(EOS).cumsum(1) > 1
    labels = ids.clone()
    labels[:, : len(start)] = -100
    labels[:, len(start) :][ends] = -100
    loaded.model.set_adapter("generator")
    parameters = list(loaded.model.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, 5e-3)
    for step in range(60):
        some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(step))[:96]
        loss = loaded.model(input_ids=ids[some], labels=labels[some]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loaded.model.requires_grad_(False)
    return loaded


def way(engine: TransformersEngine, sampling: str, drafts: int) -> TransformersEngine:
    return TransformersEngine(engine.folder, engine.model, engine.tokenizer, "outlines_core", sampling, drafts)


def request(n: int = 1, seed: int = 0, temperature: float = 1.0, limit: int = 60, **others: Any) -> Request:
    return Request("generator", PROMPT, n, seed, temperature, limit, **others)


def one_of(texts: Iterable[str]) -> Constraint:
    return Constraint("regex", "|".join(texts))


def mask_of(space: CategoricalSpace, allowed: Iterable[str], encoding: Encoding = "compact") -> Remaining:
    mask, kept = Remaining(space, encoding), set(allowed)
    for arch in space.all():
        if space.format(arch, encoding) not in kept:
            mask.exclude(arch)
    return mask


def forward(engine: TransformersEngine, row: list[int], temperature: float) -> list[tuple[torch.Tensor, int]]:
    """The model's log-probabilities before every token of an answer and before its end, each with that token's id."""
    engine._switch("generator")
    start, row = engine.tokenizer(PROMPT)["input_ids"], [*row, EOS]
    with torch.inference_mode():
        logits = engine.model(input_ids=torch.tensor([start + row])).logits[0, len(start) - 1 : -1].double()
        logits[:, ~engine.vocabulary.speakable] = -math.inf
    return list(zip((logits / temperature).log_softmax(-1), row, strict=True))


def by_hand(engine: TransformersEngine, text: str, texts: list[str], temperature: float) -> tuple[float, list[float]]:
    """Log p of a compact text, and the mass of the tokens with which one of `texts` goes on, token by token."""
    logp, masses, before = 0.0, [], ""
    for logps, token in forward(engine, engine.tokenizer(text)["input_ids"], temperature):
        going_on = {other[len(before) :][:2] for other in texts if other.startswith(before)}
        ids = [engine.vocabulary.ids[pair] if pair else EOS for pair in going_on]
        logp += float(logps[token])
        masses.append(float(logps[ids].exp().sum()))
        before += engine.vocabulary.texts[token] or ""
    return logp, masses


def allowed_texts(engine: TransformersEngine) -> list[str]:
    """Half of SPACE: without the favourites, so that the mask takes much, and unevenly."""
    ranked = sorted(TEXTS, key=lambda text: by_hand(engine, text, TEXTS, 1.0)[0], reverse=True)
    return sorted(ranked[8:40])


def chi_square(seen: Counter[str], expected: dict[str, float]) -> float:
    """Per degree of freedom, answers with less than five expected draws pooled."""
    draws = sum(seen.values())
    assert set(seen) <= set(expected)
    rare = [text for text, p in expected.items() if draws * p < 5]
    cells = [(seen[text], draws * p) for text, p in expected.items() if text not in rare]
    cells.append((sum(seen[text] for text in rare), draws * sum(expected[text] for text in rare)))
    cells = [cell for cell in cells if cell[1] > 1]
    return sum((k - mean) ** 2 / mean for k, mean in cells) / (len(cells) - 1)


def test_frequencies_follow_the_models_law_conditioned_on_what_is_allowed(taught: TransformersEngine) -> None:
    texts = allowed_texts(taught)
    logps = {text: by_hand(taught, text, texts, 1.0)[0] for text in texts}
    total = math.fsum(math.exp(logp) for logp in logps.values())
    wanted = {text: math.exp(logp) / total for text, logp in logps.items()}
    assert 0.1 < total < 0.5
    inside = request(2000, constraint=one_of(texts))
    free = [a.text for a in taught.generate(request(4000, limit=5)) if a.finished and a.text in wanted]
    again = way(taught, "rejection", 12)  # nearly always enough
    mask = mask_of(SPACE, texts)
    redrawn = [again.generate(request(seed=seed, limit=5, mask=mask))[0].text for seed in range(200)]
    reweighted = way(taught, "reweighted", 250).generate(inside)
    found = {
        "free, the allowed kept": free,
        "rejection": redrawn,
        "reweighted": [a.text for a in reweighted],
        "masked": [a.text for a in taught.generate(inside)],
    }
    figures = {name: chi_square(Counter(answers), wanted) for name, answers in found.items()}
    assert all(figures[name] < 2 for name in figures if name != "masked"), figures  # 2: about 1 in 1000 with 30 degrees
    assert figures["masked"] > 5, figures
    assert all(a.exact for a in reweighted)
    assert math.fsum(a.tokens for a in reweighted) < 3 * 3 * 2000  # few drafts are lost, once the tree is known


def test_the_law_of_a_small_set_is_enumerated(taught: TransformersEngine) -> None:
    texts = allowed_texts(taught)
    found = law(taught, request(temperature=0.8, mask=mask_of(SPACE, texts), constraint=one_of(texts)))
    assert set(found.logp) == set(texts)
    masked = {}
    for text in texts:
        logp, masses = by_hand(taught, text, texts, 0.8)
        masked[text] = logp - math.fsum(map(math.log, masses))
        assert found.logp[text] == pytest.approx(logp, abs=1e-3)
        assert found.logp_masked[text] == pytest.approx(masked[text], abs=1e-3)
    assert math.fsum(map(math.exp, found.conditional.values())) == pytest.approx(1)
    assert math.fsum(map(math.exp, found.logp_masked.values())) == pytest.approx(1)
    by_definition = math.fsum(math.exp(q) * (q - found.conditional[text]) for text, q in masked.items())
    assert found.divergence == pytest.approx(by_definition, abs=1e-3) and found.divergence > 0.02
    (single,) = law(taught, request(constraint=one_of(texts[:1]))).conditional.values()
    assert single == pytest.approx(0)


def test_laws_of_too_many_answers_are_refused(taught: TransformersEngine) -> None:
    with pytest.raises(UserError, match="more than 40 answers"):
        law(taught, request(constraint=one_of(TEXTS)), most=40)
    with pytest.raises(UserError, match="more than 2 tokens"):
        law(taught, replace(request(constraint=one_of(TEXTS)), max_tokens=2))


def test_an_answer_of_several_token_sequences_has_the_sum_of_their_chances(engine: TransformersEngine) -> None:
    """Without merges (a foreign tokenizer), `a0` comes as one token or as two."""
    loose = way(engine, "masked", 0)
    loose.vocabulary = replace(engine.vocabulary, merges=False)
    loose.backend = backends.load("outlines_core", loose.vocabulary)
    found = law(loose, request(constraint=one_of(["a0b0", "a1b1"])))
    rows = [["a0", "b0"], ["a", "0", "b0"], ["a0", "b", "0"], ["a", "0", "b", "0"]]
    chances = []
    for row in rows:
        steps = forward(engine, [VOCABULARY.ids[part] for part in row], 1.0)
        chances.append(math.exp(sum(float(logps[token]) for logps, token in steps)))
    assert set(found.logp) == {"a0b0", "a1b1"}
    assert found.logp["a0b0"] == pytest.approx(math.log(math.fsum(chances)), abs=1e-4)
    assert found.logp["a0b0"] > math.log(chances[0]) + 1e-4


def draw(
    scores: dict[str, Scores], mask: Remaining, seed: int, n: int, vocabulary: Vocabulary = VOCABULARY
) -> tuple[str, ...]:
    """`n` distinct answers of a given autoregressive model, which depends on the text alone."""
    tree = Tree(vocabulary, request(n, seed, 0.8, mask=mask), n, 250, "reweighted")
    answers: list[str] = []
    while tree.missing:
        size, drafts = tree.batch(), tree.drafts()
        ids = torch.zeros((size, 1), dtype=torch.long)
        for step in range(4):  # three tokens and the end
            logits = torch.full((size, VOCABULARY.size), -torch.inf)
            for i in range(size):
                for token, score in scores[drafts.texts[i].rstrip(END) if step else ""].items():
                    logits[i, token] = score
            drawn = drafts(ids, tree.norms(ids, logits)).argmax(-1)
            ids = torch.cat([ids, drawn[:, None]], 1)
        answers += [drafts.texts[i][:-1] for i in tree.settle(drafts)]
    return tuple(answers)


def test_each_distinct_answer_is_conditioned_on_not_being_one_before() -> None:
    space = CategoricalSpace("toy", [Variable("a", ("x", "y")), Variable("b", ("x", "y")), Variable("c", ("x", "y"))])
    scores = table(space, Random(1))
    for text in list(scores):
        scores[text][VOCABULARY.ids["z9"]] = 1.0  # never allowed
    mask = mask_of(space, [space.format(arch, "compact") for arch in space.all()][2:])
    chances: dict[str, float] = {}
    for arch in space.all():
        text, chance = space.format(arch, "compact"), 1.0
        for end in (0, 2, 4, 6):
            here = scores[text[:end]]
            token = VOCABULARY.ids[text[end : end + 2]] if end < 6 else EOS
            chance *= math.exp(here[token] / 0.8) / sum(math.exp(score / 0.8) for score in here.values())
        if mask.count(text + END):
            chances[text] = chance
    total = sum(chances.values())
    successive = {
        f"{a} {b}": chances[a] / total * chances[b] / (total - chances[a]) for a, b in permutations(chances, 2)
    }
    seen = Counter(" ".join(draw(scores, mask, seed, 2)) for seed in range(1500))
    assert chi_square(seen, successive) < 2
    left = space.restrict([space.parse(text, "compact") for text in chances])
    masked = {" ".join(pair): p for pair, p in sequential_law(left, scores, 2, 0.8).items()}
    assert chi_square(seen, masked) > 4


def test_an_answer_may_be_reached_by_several_token_sequences() -> None:
    space = CategoricalSpace("toy", [Variable("a", ("x", "y", "z"))])
    pairs, ids = {"a0": 1.0, "a1": -1.0, "a2": -3.0}, VOCABULARY.ids
    scores: dict[str, Scores] = {
        "": {**{ids[pair]: score for pair, score in pairs.items()}, ids["a"]: 1.0, ids["z9"]: 2.0},
        "a": {ids["0"]: -2.0, ids["1"]: 0.5, ids["2"]: 1.0, EOS: 2.0},
        **{pair: {EOS: 0.0, ids["b"]: float(k)} for k, pair in enumerate(pairs)},
    }
    model = {at: {t: math.exp(s / 0.8) for t, s in here.items()} for at, here in scores.items()}
    model = {at: {t: w / sum(here.values()) for t, w in here.items()} for at, here in model.items()}
    chances = {p: (model[""][ids[p]] + model[""][ids["a"]] * model["a"][ids[p[1]]]) * model[p][EOS] for p in pairs}
    allowed = mask_of(space, ["a1", "a2"])
    wanted = {pair: chances[pair] / (chances["a1"] + chances["a2"]) for pair in ("a1", "a2")}
    loose = replace(VOCABULARY, merges=False)
    seen = Counter(draw(scores, allowed, seed, 1, loose)[0] for seed in range(1000))
    assert chi_square(seen, wanted) < 11  # 1 in 1000 with one degree of freedom
    assert {draw(scores, allowed, seed, 2, loose) for seed in range(40)} == {("a1", "a2"), ("a2", "a1")}


few = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("sampling", ["reweighted", "asap"])
@given(
    space=parts(25), encoding=st.sampled_from(["compact", "native"]), seed=st.integers(0, 2**31), n=st.integers(1, 9)
)
@few
def test_every_architecture_comes_once(
    engine: TransformersEngine, sampling: str, space: CategoricalSpace, encoding: Encoding, seed: int, n: int
) -> None:
    """With a model that knows nothing, down to the least likely ones; equal requests, equal answers."""
    mask, left = Remaining(space, encoding), set(space.all())
    sampler = way(engine, sampling, 250)
    while left:
        asked = request(n, seed + len(left), constraint=Constraint("regex", space.regex(encoding)), mask=mask)
        answers = sampler.generate(asked)
        texts = [a.text for a in answers]
        assert [a.text for a in sampler.generate(asked)] == texts
        archs = {space.parse(text, encoding) for text in texts}
        assert len(texts) == len(archs) == min(n, len(left)) and archs <= left
        left -= archs
        for arch in archs:
            mask.exclude(arch)
    assert sampler.generate(request(n, mask=mask)) == []


@pytest.mark.parametrize("sampling", ["masked", "rejection", "reweighted", "asap"])
@given(keep=st.sets(st.sampled_from(TEXTS), min_size=1), seed=st.integers(0, 2**31), temperature=st.floats(0.6, 2))
@few
def test_what_an_answer_says_of_its_chances_is_what_the_model_says_in_one_pass(
    taught: TransformersEngine, sampling: str, keep: set[str], seed: int, temperature: float
) -> None:
    texts = sorted(keep)
    legal = Constraint("regex", SPACE.regex("compact"))
    asked = request(min(3, len(texts)), seed, temperature, constraint=legal, mask=mask_of(SPACE, texts))
    for answer in way(taught, sampling, {"masked": 0, "rejection": 4}.get(sampling, 250)).generate(asked):
        logp, masses = by_hand(taught, answer.text, texts, temperature)
        assert answer.logp == pytest.approx(logp, abs=2e-3)
        assert answer.logp_masked == pytest.approx(logp - math.fsum(map(math.log, masses)), abs=2e-3)
        assert answer.removed == pytest.approx([1 - mass for mass in masses], abs=1e-4)


def test_free_answers_say_nothing_and_greedy_ones_speak_of_temperature_one(taught: TransformersEngine) -> None:
    (free,) = taught.generate(request())
    assert (free.logp, free.logp_masked, free.removed, free.exact) == (None, None, (), None)
    (greedy,) = taught.generate(request(temperature=0.0, constraint=one_of(TEXTS)))
    assert greedy.logp == pytest.approx(by_hand(taught, greedy.text, TEXTS, 1.0)[0], abs=2e-3)


def test_what_is_too_rare_is_refused_and_asap_says_that_it_is_near(taught: TransformersEngine) -> None:
    texts = sorted(TEXTS, key=lambda text: by_hand(taught, text, TEXTS, 1.0)[0])[:12]
    asked = request(1, constraint=one_of(TEXTS), mask=mask_of(SPACE, texts))
    with pytest.raises(UserError, match=r"'reweighted' kept 0 of 2 drafts for the generator and 1 were wanted.*asap"):
        way(taught, "reweighted", 2).generate(asked)
    (near,) = way(taught, "asap", 2).generate(asked)
    assert near.exact is False and near.text in texts
    (exact,) = way(taught, "asap", 250).generate(asked)
    assert exact.exact is True and exact.text in texts
    assert way(taught, "reweighted", 250).generate(asked)[0].text == exact.text


@pytest.mark.parametrize("sampling", ["reweighted", "asap"])
def test_greedy_has_no_law_to_reweigh(taught: TransformersEngine, sampling: str) -> None:
    with pytest.raises(UserError, match=f"'{sampling}' needs a temperature above 0"):
        way(taught, sampling, 9).generate(request(temperature=0.0, constraint=one_of(TEXTS)))


def test_the_engine_says_how_it_samples(taught: TransformersEngine) -> None:
    told = [way(taught, name, drafts).describe() for name, drafts in (("rejection", 4), ("reweighted", 250))]
    assert told[0]["sampling"] == "rejection" and told[1]["sampling"] == "reweighted" and told[1]["drafts"] == 250
