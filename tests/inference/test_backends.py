"""All grammar backends allow the same tokens, step by step, so that equal seeds give equal candidates."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas import prompts, spaces, strategy
from collm_nas.api import Constraint, Encoding, Request, UserError
from collm_nas.constraints.remaining import Remaining
from collm_nas.spaces import yaml_space
from collm_nas.spaces.base import CategoricalSpace
from finetune.tokenizer import build
from inference import backends, vocabulary
from inference.backends import table
from inference.engines.transformers import TransformersEngine
from inference.vocabulary import Vocabulary
from tests.inference.small import parts

NEEDS = {"llguidance": "llguidance", "xgrammar": "xgrammar"}
BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in NEEDS and find_spec(NEEDS[name]) is None,
            reason=f"{name} is not installed: pip install 'collm-nas[structured]'",
        ),
    )
    for name in backends.names()
]
OTHERS = [param for param in BACKENDS if param.values[0] != "outlines_core"]
VOCABULARIES = ("own", "own-unmerged", "bytes")
ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
ROWS = 6

CONDITIONAL = """
name: conditional
variables:
  - {name: d, choices: [2, 3, 4]}
  - {name: k1, choices: [3, 5, 7]}
  - {name: k2, choices: [3, 5, 7], active_if: {d: [3, 4]}}
  - {name: k3, choices: [3, 5, 7], active_if: {d: [4], k2: [5, 7]}}
  - {name: act, choices: [relu, h.swish, "no"]}
  - {name: se, choices: ["0", "1"], active_if: {act: [relu]}}
encoding: "<{d}> {k1},{k2},{k3} {act}+{se}"
"""


@cache
def space_of(name: str) -> CategoricalSpace:
    return yaml_space.parse(CONDITIONAL, "conditional.yaml") if name == "conditional" else spaces.load(name)


@cache
def byte_tokenizer() -> Any:
    """A small byte-level BPE tokenizer of SmolLM2's kind: digits one by one, some tokens no text by themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = Random(0)
    names = ("nasbench201", "ofa-mbv3", "digits-cells")
    lines = [space_of(name).format(space_of(name).sample(rng)) for name in names for _ in range(60)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")


@cache
def vocabulary_of(name: str) -> Vocabulary:
    """A tokenizer's vocabulary, for a model with logits beyond it."""
    tokenizer = byte_tokenizer() if name == "bytes" else build()
    return vocabulary.read(tokenizer, len(tokenizer) + 45, merges=name == "own")


@cache
def backend_of(name: str, vocabulary_name: str) -> backends.Backend:
    return backends.load(name, vocabulary_of(vocabulary_name))


def allowed_texts(backend: str, vocabulary_name: str, text: str, constraint: Constraint) -> set[str | None]:
    """What may follow `text`, written character by character; None for the end."""
    words = vocabulary_of(vocabulary_name)
    processor = backend_of(backend, vocabulary_name).processor(constraint)
    ids = torch.zeros((1, 1), dtype=torch.long)
    logits = torch.zeros((1, words.size))
    found = processor(ids, logits)
    for char in text:
        ids = torch.cat([ids, torch.tensor([[words.ids[char]]])], 1)
        found = processor(ids, logits)
    return {words.texts[i] for i in torch.isfinite(found[0]).nonzero()[:, 0].tolist()}


def walk(backend: str, vocabulary_name: str, constraint: Constraint, seed: int, limit: int = 2000) -> list[str]:
    """Texts that random choices among the allowed tokens spell, after each step has been compared with outlines_core.

    Rows that have ended go on with the padding token, as in `generate`. Texts cut at the limit are left out.
    """
    words, rng = vocabulary_of(vocabulary_name), Random(seed)
    names = ("outlines_core", backend)
    reference, other = (backend_of(name, vocabulary_name).processor(constraint) for name in names)
    reference.reset(), other.reset()
    ids = torch.zeros((ROWS, 3), dtype=torch.long)
    texts, done = [""] * ROWS, [False] * ROWS
    for _ in range(limit):
        logits = torch.randn((ROWS, words.size), generator=torch.Generator().manual_seed(rng.getrandbits(32)))
        expected, found = reference(ids, logits.clone()), other(ids, logits.clone())
        drawn = []
        for i in range(ROWS):
            if done[i]:
                assert torch.isfinite(found[i]).nonzero().tolist() == [[words.eos]]
                drawn.append(words.tokenizer.pad_token_id)
                continue
            assert torch.equal(found[i], expected[i]), (texts[i], difference(words, found[i], expected[i]))
            token = rng.choice(torch.isfinite(found[i]).nonzero()[:, 0].tolist())
            done[i] = token == words.eos
            assert done[i] or words.texts[token]
            texts[i] += "" if done[i] else words.texts[token] or ""
            drawn.append(token)
        if all(done):
            break
        ids = torch.cat([ids, torch.tensor(drawn)[:, None]], 1)
    return [text for text, ended in zip(texts, done, strict=True) if ended]


def difference(words: Vocabulary, found: torch.Tensor, expected: torch.Tensor) -> list[str | None]:
    differ = (torch.isfinite(found) != torch.isfinite(expected)).nonzero()[:, 0].tolist()
    return [words.texts[i] for i in differ]


def compare(backend: str, vocabulary_name: str, pattern: str, seed: int = 0) -> list[str]:
    texts = walk(backend, vocabulary_name, Constraint("regex", pattern), seed)
    assert len(texts) == ROWS and all(re.fullmatch(pattern, text) for text in texts)
    return texts


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
@pytest.mark.parametrize(
    "name", ["nasbench201", "digits-cells", "ofa-mbv3", "spos-shufflenet", "autoformer-tiny", "conditional"]
)
@pytest.mark.parametrize("backend", OTHERS)
def test_spaces_and_strategies_allow_the_same_tokens_at_every_step(
    backend: str, name: str, vocabulary_name: str
) -> None:
    space = space_of(name)
    for encoding in ENCODINGS:
        for text in compare(backend, vocabulary_name, space.regex(encoding)):
            assert space.format(space.parse(text, encoding), encoding) == text
    for text in compare(backend, vocabulary_name, strategy.regex(space)):
        assert strategy.Strategy.parse(text, space).compact(space) == text


@pytest.mark.parametrize("backend", OTHERS)
@given(
    space=parts(30),
    encoding=st.sampled_from(ENCODINGS),
    vocabulary_name=st.sampled_from(VOCABULARIES),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=25)
def test_any_small_space_allows_the_same_tokens(
    backend: str, space: CategoricalSpace, encoding: Encoding, vocabulary_name: str, seed: int
) -> None:
    compare(backend, vocabulary_name, space.regex(encoding), seed)


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
@pytest.mark.parametrize(
    "pattern",
    [
        "1|10",
        "10|1|100",
        "(1|10)(0|00)",
        "(a0|a-){9}",
        "(a(0|-)?){9}",
        "<(dir|foo)>[a-c]{9}",
        "([A-C][0-1]?<?){9}",
        "[^<]{5}",
        "<dir>",
        "a0b1",
        "x{0,3}a",
        re.escape("a b#&~-/\\.^$*+?(){}[]|\"'%@!,:;=_`"),
    ],
)
@pytest.mark.parametrize("backend", OTHERS)
def test_awkward_expressions_allow_the_same_tokens(backend: str, pattern: str, vocabulary_name: str) -> None:
    for seed in range(3):
        compare(backend, vocabulary_name, pattern, seed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_step_allows_is_what_was_meant(backend: str) -> None:
    """Fixed sets: the comparisons above would pass if all backends were wrong alike."""
    for text, allowed in {"": {"1"}, "1": {None, "0"}, "10": {None}}.items():
        assert allowed_texts(backend, "own", text, Constraint("regex", "1|10")) == allowed
    letters = Constraint("regex", "(a0|a-|b1)<(s1|s2)>")
    assert allowed_texts(backend, "own", "", letters) == {"a0", "a", "b1"}
    assert allowed_texts(backend, "own", "a", letters) == {"-"}
    assert allowed_texts(backend, "own", "a-", letters) == {"<s1>", "<s2>"}
    assert allowed_texts(backend, "own-unmerged", "", letters) == {"a0", "a", "b1", "b"}
    assert allowed_texts(backend, "own-unmerged", "a", letters) == {"0", "-"}
    assert allowed_texts(backend, "own-unmerged", "a-", letters) == {"<s1>", "<s2>", "<"}


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"k": {"enum": [3, 5]}, "e": {"type": "boolean"}}, "required": ["k"]},
        {"type": "object", "properties": {"e": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3}}},
        {"type": "string", "maxLength": 9},
    ],
)
@pytest.mark.parametrize("backend", OTHERS)
def test_json_is_compact_and_the_same(backend: str, schema: dict[str, Any], vocabulary_name: str) -> None:
    for seed in range(3):
        texts = walk(backend, vocabulary_name, Constraint("json", json.dumps(schema)), seed)
        assert len(texts) == ROWS
        for text in texts:
            value = json.loads(text)
            assert json.dumps(value, separators=(",", ":"), ensure_ascii=False) == text


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
@pytest.mark.parametrize("backend", OTHERS)
def test_the_json_mode_of_a_space_is_the_same(backend: str, vocabulary_name: str) -> None:
    constraint = Constraint("json", prompts.json_schema(space_of("nasbench201")))
    walk(backend, vocabulary_name, constraint, seed=0, limit=12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_seeds_give_equal_candidates(engine: TransformersEngine, backend: str) -> None:
    space = space_of("nasbench201")
    mine = TransformersEngine(engine.folder, engine.model, engine.tokenizer, backend)
    mask = Remaining(space, "compact")
    schema = Constraint("json", prompts.json_schema(space))
    for request in (
        Request("navigator", "<dir>", 3, 1, 1.0, 200, Constraint("regex", strategy.regex(space))),
        Request("generator", "<a>a0<gen>", 8, 2, 1.0, 60, Constraint("regex", space.regex("compact"))),
        Request("generator", "<a>a0<gen>", 8, 2, 1.0, 60, Constraint("regex", space.regex("native")), None),
        Request("generator", "<a>a0<gen>", 8, 3, 2.0, 60, Constraint("regex", space.regex("compact")), mask),
        Request("generator", "<a>a0<gen>", 4, 4, 1.0, 30, schema),
    ):
        expected = [(answer.text, answer.tokens) for answer in engine.generate(request)]
        assert [(answer.text, answer.tokens) for answer in mine.generate(request)] == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_processor_serves_again_after_a_reset_and_its_constraint_is_compiled_once(backend: str) -> None:
    processor = backend_of(backend, "own").processor(Constraint("regex", "a0b1"))
    ids, logits = torch.zeros((2, 1), dtype=torch.long), torch.zeros((2, vocabulary_of("own").size))
    words = vocabulary_of("own")
    for _ in range(2):
        processor.reset()
        assert int(processor(ids, logits).argmax(-1)[1]) == words.ids["a0"]
        after = torch.cat([ids, torch.full((2, 1), words.ids["a0"])], 1)
        assert int(processor(after, logits).argmax(-1)[0]) == words.ids["b1"]
    assert not logits.any()  # the model's own tensor is left as it was


GRAMMARS = {
    "lark": 'start: "a" X "c"\nX: "0" | "1"\n',
    "gbnf": 'root ::= "a" x "c"\nx ::= "0" | "1"\n',
}


@pytest.mark.parametrize(("kind", "taker"), [("lark", "llguidance"), ("gbnf", "xgrammar")])
@pytest.mark.parametrize("backend", BACKENDS)
def test_grammars_are_taken_by_one_backend_each_and_the_others_name_it(backend: str, kind: Any, taker: str) -> None:
    constraint = Constraint(kind, GRAMMARS[kind])
    if backend == taker:
        assert allowed_texts(backend, "own", "", constraint) == {"a0", "a1"}
        assert allowed_texts(backend, "own-unmerged", "a", constraint) == {"0", "1"}
    else:
        with pytest.raises(UserError, match=f"{backend}.* regex.*, but got '{kind}'.* takes it is '{taker}'"):
            backend_of(backend, "own").processor(constraint)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("regex", "a(?=b)"),
        Constraint("regex", "(a)\\1"),
        Constraint("regex", "(a"),
        Constraint("json", "{"),
        Constraint("json", '{"type": "nonsense"}'),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_constraints_that_cannot_be_used_are_named_in_one_line(backend: str, constraint: Constraint) -> None:
    with pytest.raises(UserError, match=f"'{backend}' can't use the {constraint.kind} ") as caught:
        backend_of(backend, "own").processor(constraint)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    with pytest.raises(UserError) as again:
        backend_of(backend, "own").processor(constraint)
    assert str(again.value) == str(caught.value)  # no time of day in it


@pytest.mark.parametrize("kind", ["lark", "gbnf"])
def test_grammars_that_cannot_be_used_are_named(kind: Any) -> None:
    backend = {"lark": "llguidance", "gbnf": "xgrammar"}[kind]
    pytest.importorskip(backend)
    with pytest.raises(UserError, match=f"'{backend}' can't use the {kind} 'nonsense"):
        backend_of(backend, "own").processor(Constraint(kind, "nonsense ("))


@pytest.mark.parametrize("pattern", ["a\u00e9", "a0\u00e9b1"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_characters_that_the_tokenizer_lacks_are_an_error(
    engine: TransformersEngine, backend: str, pattern: str
) -> None:
    """llguidance then offers the end of the text, though the text is not complete."""
    mine = TransformersEngine(engine.folder, engine.model, engine.tokenizer, backend)
    with pytest.raises(UserError, match="token"):
        mine.generate(Request("generator", "<gen>", 2, 0, 1.0, 20, Constraint("regex", pattern)))


def test_a_lark_grammar_may_have_options_of_its_own() -> None:
    pytest.importorskip("llguidance")
    for options, allowed in (("{}", {"a0", "a"}), ('{"no_forcing": false}', {"a0"})):
        constraint = Constraint("lark", f'%llguidance {options}\nstart: "a0b1"\n')
        assert allowed_texts("llguidance", "own-unmerged", "", constraint) == allowed


def test_special_tokens_named_in_a_grammar_are_never_allowed() -> None:
    pytest.importorskip("llguidance")
    words = vocabulary_of("own")
    pad = words.tokenizer.pad_token_id
    processor = backend_of("llguidance", "own").processor(Constraint("lark", f'start: <[{pad}]> | "a0"\n'))
    found = processor(torch.zeros((1, 1), dtype=torch.long), torch.zeros((1, words.size)))
    assert torch.isfinite(found[0]).nonzero()[:, 0].tolist() == [words.ids["a0"]]


def test_a_table_that_would_be_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_LARGEST", 100)
    fresh = table.create(vocabulary_of("own"))
    fresh.processor(Constraint("regex", "(a0){40}"))
    with pytest.raises(UserError, match=r"51 or more states and 2 or more tokens exceeds 100 entries.*outlines_core"):
        fresh.processor(Constraint("regex", "(a0){80}"))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "inference.backends.xgrammar", raising=False)
    with pytest.raises(UserError, match=r"xgrammar.* not installed.*pip install 'collm-nas\[structured\]'"):
        backends.load("xgrammar", vocabulary_of("own"))


def test_auto_is_the_one_for_the_size_of_the_vocabulary() -> None:
    assert backends.choose("auto", 2240) == "outlines_core" and backends.choose("auto", 49152) == "llguidance"
    assert backends.choose("table", 49152) == "table"
    assert type(backends.load("auto", vocabulary_of("own"))) is type(
        backends.load("outlines_core", vocabulary_of("own"))
    )


def test_merging_is_the_vocabularys_word() -> None:
    """The two readings of our own tokenizer differ in `merges` alone: what the tests above compare is that rule."""
    assert replace(vocabulary_of("own"), merges=False).texts == vocabulary_of("own-unmerged").texts
