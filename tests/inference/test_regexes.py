"""Regular expressions for servers: the texts they list, and what llama.cpp's dialect makes of them."""

from __future__ import annotations

import random
import re
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm_nas import prompts, spaces, strategy
from collm_nas.api import Constraint, UserError
from inference import regexes
from tests.inference.test_grammar_kinds import by_gbnf, by_lark

SPACE = spaces.load("digits-cells")


@given(st.lists(st.text(st.sampled_from("ab|.()["), min_size=1, max_size=6), min_size=1, max_size=30))
def test_an_alternation_is_its_texts_and_no_other(texts: list[str]) -> None:
    pattern = re.compile(regexes.alternation(texts))
    others = {text[:-1] for text in texts} | {text + "a" for text in texts}
    assert {text for text in {*texts, *others} if pattern.fullmatch(text)} == {*texts}


def test_what_several_begin_with_is_written_once() -> None:
    assert regexes.alternation(["conv3 | max", "conv5 | max", "conv3 | avg"]) == r"conv(?:3 \| (?:avg|max)|5 \| max)"


EXPRESSIONS = {
    "marks": r'a\.b\|c\\"d',
    "groups": r"(?:ab|(c|d)e)*f?",
    "classes": r"[a-c_\]^-]{2,3}[^x\n]\d+.",
    "compact": SPACE.regex("compact"),
    "native": SPACE.regex("native"),
    "strategy": strategy.regex(SPACE),
    "json": regexes.of(Constraint("json", prompts.json_schema(SPACE))),
}


@pytest.mark.skipif(find_spec("xgrammar") is None, reason="xgrammar, which reads GBNF, is not installed")
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_grammar_says_what_the_expression_says(name: str) -> None:
    regex = EXPRESSIONS[name]
    accepts, pattern = by_gbnf(regexes.gbnf(regex)), re.compile(regex)
    for word in words(regex):
        assert accepts(word) == bool(pattern.fullmatch(word)), word


def words(regex: str) -> list[str]:
    """Texts that the expression allows, and the same with a character more, less or changed."""
    import outlines_core

    rng, found = random.Random(0), set[str]()
    vocabulary = outlines_core.Vocabulary(0, {chr(i): [i] for i in range(1, 127)})
    index = outlines_core.Index(regex, vocabulary)
    for _ in range(20):
        state, word = index.get_initial_state(), ""
        while len(word) < 200:
            if index.is_final_state(state) and rng.random() < 0.3:
                break
            moves = [move for move in sorted((index.get_transitions()[state] or {}).items()) if move[0]]
            if not moves:
                break
            token, state = rng.choice(moves)
            word += chr(token)
        at = rng.randrange(len(word) + 1)
        found |= {word, word[:at] + rng.choice('ab01"\\ ') + word[at:], word[:at] + word[at + 1 :]}
        found.add(word[:at] + rng.choice("abz9-") + word[at + 1 :])
    return sorted(found)


def test_words_has_both_kinds() -> None:
    told = [bool(re.fullmatch(EXPRESSIONS["groups"], word)) for word in words(EXPRESSIONS["groups"])]
    assert True in told and False in told


@pytest.mark.parametrize("regex", [r"(a)\1", r"a(?=b)", r"^a", r"a+?"])
def test_what_no_grammar_has_is_refused(regex: str) -> None:
    with pytest.raises(UserError, match=r"which llama\.cpp has no grammar for"):
        regexes.gbnf(regex)


def test_other_grammars_are_refused() -> None:
    with pytest.raises(UserError, match="not as lark"):
        regexes.of(Constraint("lark", "start: A"))


def test_json_is_spelled_without_white_space() -> None:
    regex = EXPRESSIONS["json"]
    assert re.fullmatch(regex, '{"arch":"x"}') and not re.fullmatch(regex, '{"arch": "x"}')
    assert by_lark("start: /" + regex.replace("/", r"\/") + "/")('{"arch":"x"}')
