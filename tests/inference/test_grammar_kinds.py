"""A space's constraint as a regular expression, for llguidance and for xgrammar: one language, no spelling more."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm_nas import spaces
from collm_nas.api import Encoding
from collm_nas.spaces import yaml_space
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.grammar import constraint
from tests.inference import small
from tests.inference.test_backends import CONDITIONAL

Accepts = Callable[[str], bool]
ENCODINGS: tuple[Encoding, ...] = ("compact", "native")
NAMES = ("conditional", "digits-cells", "nasbench201", "ofa-mbv3", "spos-shufflenet", "autoformer-tiny")


@cache
def byte_tokens() -> Any:
    """A tokenizer of 256 bytes and an end, for llguidance."""
    import llguidance

    class Bytes:
        eos_token_id, bos_token_id, unk_token_id = 256, None, None

        def __init__(self) -> None:
            self.tokens = [*(bytes([b]) for b in range(256)), b"<|end|>"]
            self.special_token_ids = [256]

        def __call__(self, text: str | bytes) -> list[int]:
            return list(text if isinstance(text, bytes) else text.encode())

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))


def by_regex(text: str) -> Accepts:
    pattern = re.compile(text)
    return lambda word: pattern.fullmatch(word) is not None


def by_lark(text: str) -> Accepts:
    import llguidance

    assert not llguidance.LLMatcher.validate_grammar(text, byte_tokens())

    def accepts(word: str) -> bool:
        matcher = llguidance.LLMatcher(byte_tokens(), text)
        return bool(matcher.consume_tokens(list(word.encode())) and matcher.is_accepting())

    return accepts


def by_gbnf(text: str) -> Accepts:
    import xgrammar

    info = xgrammar.TokenizerInfo([*(bytes([b]) for b in range(256)), b"</s>"], stop_token_ids=[256])
    compiled = xgrammar.GrammarCompiler(info, max_threads=1).compile_grammar(text)

    def accepts(word: str) -> bool:
        matcher = xgrammar.GrammarMatcher(compiled, terminate_without_stop_token=False)
        return bool(matcher.accept_string(word) and matcher.accept_token(256))

    return accepts


KINDS = [
    pytest.param("regex", by_regex),
    pytest.param("lark", by_lark),
    pytest.param(
        "gbnf",
        by_gbnf,
        marks=pytest.mark.skipif(find_spec("xgrammar") is None, reason="xgrammar is not installed (extra structured)"),
    ),
]


def canonical(space: CategoricalSpace, word: str, encoding: Encoding) -> bool:
    """Whether it is the one spelling of an architecture of the whole space."""
    try:
        return space.whole.format(space.whole.parse(word, encoding), encoding) == word
    except ValueError:
        return False


def spoiled(word: str, others: str, rng: random.Random) -> list[str]:
    """Words near it: cut, longer, with one character changed, with a piece exchanged or repeated."""
    i, j = sorted(rng.sample(range(len(word) + 1), 2))
    changed = word[: max(0, i - 1)] + rng.choice(others) + word[i:]
    return [word[:i], word + rng.choice(others), changed, word[:i] + word[j:], word[:j] + word[i:], "", word + " "]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "reader"), KINDS)
def test_exactly_the_canonical_spellings(kind: Any, reader: Callable[[str], Accepts], name: str, encoding: Any) -> None:
    space = yaml_space.parse(CONDITIONAL, "c.yaml") if name == "conditional" else spaces.load(name)
    accepts = reader(constraint(space, encoding, kind).text)
    rng = random.Random(5)
    words = [space.format(space.sample(rng), encoding) for _ in range(12)]
    assert all(accepts(word) for word in words)
    near = {other for word in words for other in spoiled(word, "".join(words), rng)}
    assert [word for word in near if accepts(word) != canonical(space, word, encoding)] == []


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("kind", "reader"), KINDS)
def test_small_spaces_whole(kind: Any, reader: Callable[[str], Accepts], encoding: Any) -> None:
    @settings(max_examples=25, deadline=None)
    @given(small.spaces(30), st.randoms(use_true_random=False))
    def check(space: CategoricalSpace, rng: random.Random) -> None:
        accepts = reader(constraint(space, encoding, kind).text)
        words = {space.format(arch, encoding) for arch in space.all()}
        assert all(accepts(word) for word in words)
        near = {other for word in words if word for other in spoiled(word, word, rng)} - words
        assert not any(accepts(word) for word in near)

    check()


def test_the_kinds_in_full(tmp_path: Path) -> None:
    text = (
        "name: s\nvariables:\n  - {name: d, choices: [1, 10]}\n  - {name: k, choices: [a, b.c], active_if: {d: [10]}}\n"
    )
    space = yaml_space.parse(text, "s.yaml")
    assert constraint(space, "compact").text == "(?:a0|a1b[01])"
    assert constraint(space, "compact", "gbnf").text == 'root ::= ("a0"|"a1" ("b0"|"b1"))\n'
    native = constraint(space, "native", "lark").text
    assert native.startswith("start: ARCHITECTURE\nARCHITECTURE: (") and '"b.c"' in native
    assert r"b\.c" in constraint(space, "native").text
