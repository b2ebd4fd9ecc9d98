"""Top-p: of which law the nucleus is, way by way, against laws that are enumerated by hand."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas.api import Constraint, Encoding, UserError, Variable
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces.base import CategoricalSpace
from inference import backends, exact, processors
from inference import nucleus as module
from inference.engines.transformers import TransformersEngine
from inference.nucleus import Whole, nucleus
from inference.processors import Sampler
from tests.inference.small import parts
from tests.inference.test_exact import (
    SPACE,
    TEXTS,
    allowed_texts,
    by_hand,
    chi_square,
    forward,
    mask_of,
    one_of,
    request,
    taught,
    way,
)
from tests.inference.test_sampler import ENCODINGS, EOS, VOCABULARY, run, table

__all__ = ["taught"]
DRAFTS = {"masked": 0, "rejection": 4, "reweighted": 250, "asap": 50}
P = 0.8
Law = dict[str, float]


def kept(law: dict[Any, float], top_p: float) -> dict[Any, float]:
    """The likeliest, one after the other, until they hold `top_p` of all; renormalised."""
    total, found = math.fsum(law.values()), {}
    for one, mass in sorted(law.items(), key=lambda item: -item[1]):
        if math.fsum(found.values()) < top_p * total * (1 - 1e-9):
            found[one] = mass
    return {one: mass / math.fsum(found.values()) for one, mass in found.items()}


def cut(chances: Law, top_p: float, before: str = "") -> Law:
    """The law of compact answers with these chances, cut at every token on what is allowed below each."""
    below: dict[str, Law] = {}
    for text, p in chances.items():
        below.setdefault(text[: len(before) + 2], {})[text] = p
    if len(below) == 1 and before in below:
        return {before: 1.0}
    law = {}
    for longer, share in kept({longer: math.fsum(under.values()) for longer, under in below.items()}, top_p).items():
        law |= {text: share * p for text, p in cut(below[longer], top_p, longer).items()}
    return law


def chances_of(engine: TransformersEngine, texts: list[str]) -> Law:
    """The model's own, of whole answers."""
    return {text: math.exp(by_hand(engine, text, texts, 1.0)[0]) for text in texts}


def asked_again(engine: TransformersEngine, texts: list[str], top_p: float) -> Law:
    """What is kept of free answers that are drawn with top-p."""
    law = {}
    for text in texts:
        p = 1.0
        for logps, token in forward(engine, engine.tokenizer(text)["input_ids"], 1.0):
            p *= kept(dict(enumerate(logps.exp().tolist())), top_p).get(token, 0.0)
        law[text] = p
    return {text: p / math.fsum(law.values()) for text, p in law.items() if p}


def distance(answers: list[str], law: Law) -> float:
    """Total variation."""
    seen = Counter(answers)
    return sum(abs(seen[text] / len(answers) - law.get(text, 0.0)) for text in {*seen, *law}) / 2


@given(
    weights=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 3.0]), min_size=1, max_size=12).filter(any),
    top_p=st.floats(1e-300, 1, exclude_max=True),
)
def test_the_nucleus_is_the_smallest_set_that_holds_the_share(weights: list[float], top_p: float) -> None:
    found = nucleus(np.array(weights), top_p).tolist()
    total, mass = math.fsum(weights), math.fsum(weights[k] for k in found)
    assert found == sorted(set(found)) and len(found) > 0
    assert mass >= top_p * total * (1 - 2e-9)
    last = min(found, key=lambda k: (weights[k], -k))
    assert len(found) == 1 or mass - weights[last] < top_p * total
    others = set(range(len(weights))) - {*found}
    assert all((weights[last], -last) > (weights[k], -k) for k in others), "likeliest first, then the lower id"


def test_rounding_adds_no_token() -> None:
    assert nucleus(np.full(10, 0.1), 0.7).tolist() == [0, 1, 2, 3, 4, 5, 6]


@given(
    space=parts(30), seed=st.integers(0, 2**31), encoding=st.sampled_from(ENCODINGS), merges=st.booleans(),
    top_p=st.floats(1e-6, 1),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_masked_never_comes_to_a_dead_end(
    space: CategoricalSpace, seed: int, encoding: Encoding, merges: bool, top_p: float
) -> None:
    """Whatever is left of the model's law, all come out once, also where visited and illegal ones hold nearly all."""
    expected = sorted(space.format(arch, encoding) for arch in space.all())
    parts_of = {text[i : i + k] for text in expected for i in range(len(text)) for k in (1, 2)}
    rng = Random(seed)
    among = [EOS, *(VOCABULARY.ids[part] for part in sorted(parts_of) if part in VOCABULARY.ids)]
    scores = {token: rng.gauss(0, 3) for token in among} | {VOCABULARY.ids["z9"]: 20.0}
    vocabulary = replace(VOCABULARY, merges=merges)
    sampler = Sampler(vocabulary, seed, 1.0, Remaining(space, encoding), top_p=top_p)
    assert sorted(run(sampler, lambda _: scores, space.size)) == expected


def test_masked_rows_follow_the_law_of_one_after_the_other_each_cut() -> None:
    space = CategoricalSpace("toy", [Variable("a", tuple("xyz")), Variable("b", tuple("xy"))])
    scores = table(space, Random(5))
    texts = [space.format(arch, "compact") for arch in space.all()]

    def single(text: str, left: list[str]) -> float:
        chance = 1.0
        for end in (0, 2):
            going_on = {other[end : end + 2] for other in left if other.startswith(text[:end])}
            law = {pair: math.exp(scores[text[:end]][VOCABULARY.ids[pair]] / 0.8) for pair in going_on}
            chance *= kept(law, 0.7).get(text[end : end + 2], 0.0)
        return chance

    law = {f"{a} {b}": single(a, texts) * single(b, [t for t in texts if t != a]) for a, b in permutations(texts, 2)}
    assert math.fsum(law.values()) == pytest.approx(1) and 0.0 in law.values()
    seen = Counter(
        " ".join(run(Sampler(VOCABULARY, seed, 0.8, Remaining(space, "compact"), top_p=0.7), scores.__getitem__, 2))
        for seed in range(1500)
    )
    assert chi_square(seen, {pair: p for pair, p in law.items() if p}) < 2.5


def test_reweighted_follows_the_conditional_law_cut_at_every_token(taught: TransformersEngine) -> None:
    texts = allowed_texts(taught)
    chances = chances_of(taught, texts)
    wanted = cut(chances, P)
    assert 3 < len(wanted) < len(texts)
    asked = request(2000, constraint=one_of(texts), top_p=P)
    answers = way(taught, "reweighted", 250).generate(asked)
    assert all(a.exact for a in answers)
    found = [a.text for a in answers]
    assert chi_square(Counter(found), wanted) < 2.5
    far = {name: [a.text for a in way(taught, name, DRAFTS[name]).generate(asked)] for name in ("masked", "asap")}
    figures = {name: distance(some, wanted) for name, some in {"reweighted": found, **far}.items()}
    assert figures["reweighted"] < 0.05 < figures["masked"], figures
    assert figures["asap"] < figures["masked"], figures
    assert distance(found, asked_again(taught, texts, P)) > 0.1, "cutting before is another law"


def test_rejection_follows_the_law_of_asking_again_with_top_p(taught: TransformersEngine) -> None:
    texts = sorted(chances_of(taught, TEXTS), key=chances_of(taught, TEXTS).__getitem__)[-24::3]
    wanted, mask = asked_again(taught, texts, P), mask_of(SPACE, texts)
    free = [a.text for a in taught.generate(request(4000, limit=5, top_p=P)) if a.finished and a.text in texts]
    again = way(taught, "rejection", 16)
    found = [again.generate(request(seed=seed, limit=5, mask=mask, top_p=P))[0].text for seed in range(120)]
    otherwise = cut(chances_of(taught, texts), P)
    figures = [chi_square(Counter(answers), wanted) for answers in (free, found)]
    assert max(figures) < 3, figures
    assert distance(free, otherwise) > 0.15, "cut afterwards is another law"


def test_each_distinct_answer_is_cut_on_what_those_before_leave(taught: TransformersEngine) -> None:
    texts = sorted(chances_of(taught, TEXTS), key=chances_of(taught, TEXTS).__getitem__)[-7:]
    chances = chances_of(taught, texts)
    law: Law = {}
    for first, p in cut(chances, P).items():
        left = {text: q for text, q in chances.items() if text != first}
        law |= {f"{first} {second}": p * q for second, q in cut(left, P).items()}
    asked = request(2, constraint=one_of(texts), mask=mask_of(SPACE, texts), top_p=P)
    root = taught.explore(asked, 40)

    def pair(seed: int) -> str:
        whole = Whole(taught.vocabulary, replace(asked, seed=seed), deepcopy(root))
        return " ".join(taught._completion([step.token for step in whole.draw()]).text for _ in range(2))

    seen = [pair(seed) for seed in range(1500)]
    assert chi_square(Counter(seen), law) < 2.5
    answers = way(taught, "reweighted", 250).generate(replace(asked, seed=7))
    assert " ".join(a.text for a in answers) == seen[7]


@pytest.mark.parametrize("sampling", DRAFTS)
@pytest.mark.parametrize("top_p", [1e-9, 0.5])
def test_all_that_is_allowed_comes_once(taught: TransformersEngine, sampling: str, top_p: float) -> None:
    asked = request(20, constraint=one_of(TEXTS), mask=mask_of(SPACE, TEXTS[:12]), top_p=top_p)
    answers = way(taught, sampling, DRAFTS[sampling]).generate(asked)
    assert sorted(a.text for a in answers) == sorted(TEXTS[:12])
    assert {a.exact for a in answers} == {{"reweighted": True, "asap": False}.get(sampling)}


def test_what_was_said_never_comes_again_in_another_spelling(engine: TransformersEngine) -> None:
    """Without merges `a0` comes as one token or as two."""
    loose = way(engine, "reweighted", 250)
    loose.vocabulary = replace(engine.vocabulary, merges=False)
    loose.backend = backends.load("outlines_core", loose.vocabulary)
    space = CategoricalSpace("two", SPACE.variables[:2])
    texts = ["a0b0", "a1b1", "a2b3"]
    asked = request(3, constraint=one_of(texts), mask=mask_of(space, texts), top_p=0.95)
    assert all(sorted(a.text for a in loose.generate(replace(asked, seed=seed))) == texts for seed in range(5))


def test_a_tiny_share_is_greedy(taught: TransformersEngine) -> None:
    """Of the law that the way of sampling cuts."""
    texts = allowed_texts(taught)
    asked = request(3, constraint=one_of(texts), top_p=1e-9)
    greedy = taught.generate(replace(asked, temperature=0.0, top_p=1.0))
    for sampling in ("masked", "rejection"):
        answers = way(taught, sampling, DRAFTS[sampling]).generate(asked)
        assert [a.text for a in answers] == [a.text for a in greedy]
    (likeliest,) = cut(chances_of(taught, texts), 1e-9)
    assert {a.text for a in way(taught, "reweighted", 250).generate(asked)} == {likeliest}
    (free,), (cold,) = (taught.generate(request(**given)) for given in ({"top_p": 1e-9}, {"temperature": 0.0}))
    assert free.text == cold.text


@pytest.mark.parametrize("sampling", DRAFTS)
def test_a_share_of_one_cuts_nothing(
    taught: TransformersEngine, sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = allowed_texts(taught)
    asked = request(8, constraint=one_of(TEXTS), mask=mask_of(SPACE, texts))
    engine = way(taught, sampling, DRAFTS[sampling])
    almost = engine.generate(replace(asked, top_p=math.nextafter(1, 0)))
    for place in (module, processors):
        monkeypatch.setattr(place, "nucleus", None)  # is not even called
    answers = engine.generate(asked)
    assert len(answers) == 8
    if sampling != "reweighted":  # which draws by other numbers there
        assert [a.text for a in answers] == [a.text for a in almost]


@pytest.mark.parametrize("sampling", DRAFTS)
def test_chances_are_those_of_the_whole_law(taught: TransformersEngine, sampling: str) -> None:
    texts = allowed_texts(taught)
    asked = request(3, 1, 0.8, constraint=one_of(texts), mask=mask_of(SPACE, texts), top_p=0.6)
    for answer in way(taught, sampling, DRAFTS[sampling]).generate(asked):
        logp, masses = by_hand(taught, answer.text, texts, 0.8)
        assert answer.logp == pytest.approx(logp, abs=2e-3)
        assert answer.logp_masked == pytest.approx(logp - math.fsum(map(math.log, masses)), abs=2e-3)
        assert answer.removed == pytest.approx([1 - mass for mass in masses], abs=1e-4)


@pytest.mark.parametrize("top_p", [0, -0.5, 1.5, math.nan, True, "0.9"])
def test_shares_that_are_none_are_refused(taught: TransformersEngine, top_p: Any) -> None:
    with pytest.raises(UserError, match=r"--top-p must be a number above 0, and at most 1 .* but is "):
        taught.generate(request(top_p=top_p))


def test_what_is_too_much_to_read_is_refused(taught: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = way(taught, "reweighted", 250)
    sentence = (
        r"more than 40 answers.*--sampling reweighted with --top-p 0\.9 needs that: use a smaller space, .*masked"
    )
    monkeypatch.setattr(exact, "READ", 40)
    with pytest.raises(UserError, match=sentence):
        sampler.generate(request(constraint=one_of(TEXTS), top_p=0.9))
    assert sampler.generate(request(constraint=one_of(TEXTS[:40]), top_p=0.9))[0].exact
    assert sampler.generate(request(constraint=one_of(TEXTS)))[0].exact, "all at once is another matter"


def test_what_is_far_too_much_is_refused_at_once(taught: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, calls = way(taught, "reweighted", 250), []
    draw = sampler._sample
    monkeypatch.setattr(sampler, "_sample", lambda *given: calls.append(0) or draw(*given))
    large = CategoricalSpace("large", [Variable(f"v{i}", tuple("wxyz")) for i in range(16)])
    with pytest.raises(UserError, match="more than 4096 answers"):
        sampler.generate(request(constraint=Constraint("regex", large.regex("compact")), top_p=0.9))
    assert len(calls) == 1
