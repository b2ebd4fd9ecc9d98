"""Chats, thinking before the answer, and models without adapters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from collm_nas.api import Constraint, Request, Turn, UserError
from inference import engines
from inference.engines.transformers import TransformersEngine

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]"
    "{% if not enable_thinking|default(true) %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen3's: a block of thinking that the model opens itself, or that is there, empty, where it shall not think."""
PAIRS = Constraint("regex", "(a[0-9]b[0-9]){2}")
THOUGHT = "<think>a1 or b2</think>"


@pytest.fixture(scope="module")
def bare(model_folder: Path) -> TransformersEngine:
    """The model without its adapters; with a chat template, and with the marks of thinking as tokens of their own."""
    loaded = engines.load("transformers", model_folder / "base", tuned=False)
    assert isinstance(loaded, TransformersEngine)
    loaded.tokenizer.chat_template = TEMPLATE
    loaded.tokenizer.add_tokens(["<think>", "</think>"])
    loaded.model.resize_token_embeddings(len(loaded.tokenizer))
    return TransformersEngine(loaded.folder, loaded.model, loaded.tokenizer, "outlines_core")


@pytest.fixture(scope="module")
def thinker(bare: TransformersEngine) -> TransformersEngine:
    """The same, trained to think one short thought, and to go on for long if nobody stops it."""
    taught = TransformersEngine(bare.folder, copy.deepcopy(bare.model), bare.tokenizer, "outlines_core")
    text = taught.chat.prompt(request(reasoning=60)).text + THOUGHT + "a0b0" * 20
    ids = torch.tensor([taught.chat.encode(text)])
    model: Any = taught.model
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return taught


def request(**others: Any) -> Request:
    given = {"n": 2, "seed": 5, "temperature": 1.0, "max_tokens": 40, **others}
    return Request("generator", "which one?", **given)


def test_it_thinks_to_the_end_of_the_block_then_answers_under_the_grammar(thinker: TransformersEngine) -> None:
    first, second = thinker.generate(request(reasoning=60, temperature=0.0, constraint=PAIRS))
    assert first.thinking == THOUGHT
    assert first.thinking_tokens == len(thinker.chat.encode(THOUGHT)) < 60 and second.thinking_tokens == 0
    assert first.text == second.text and len(first.text) == 8, "thinking is no part of the answer"
    assert first.tokens == 4, "and its tokens are counted apart"


def test_the_answer_goes_on_from_the_thought(thinker: TransformersEngine) -> None:
    read: list[list[int]] = []
    sample = thinker._sample

    def spy(asked: Request, prompt: list[int], *rest: Any) -> Any:
        read.append(prompt)
        return sample(asked, prompt, *rest)

    thinker._sample = spy  # type: ignore[method-assign]
    try:
        thinker.generate(request(reasoning=60, temperature=0.0, constraint=PAIRS))
    finally:
        del thinker._sample
    free, constrained = (thinker.tokenizer.decode(ids) for ids in read)
    assert free.endswith("[assistant]")
    assert constrained == free + THOUGHT.removesuffix("</think>") + "\n</think>\n\n"


def test_a_thought_that_is_too_long_is_cut_and_closed(thinker: TransformersEngine) -> None:
    (answer,) = thinker.generate(request(n=1, reasoning=4, temperature=0.0, constraint=PAIRS))
    assert answer.thinking_tokens == 4 and THOUGHT.startswith(answer.thinking)
    assert answer.finished and len(answer.text) == 8


def test_without_reasoning_the_template_is_told_so(bare: TransformersEngine) -> None:
    assert bare.chat.prompt(request()).text.endswith("[assistant]<think>\n\n</think>\n\n")
    assert bare.chat.prompt(request(reasoning=9)).text.endswith("[assistant]")
    assert bare.describe()["thinks"] is True


def test_a_model_that_knows_no_thinking_is_named(engine: TransformersEngine) -> None:
    assert "thinks" not in engine.describe()
    with pytest.raises(UserError, match=r"--reasoning 9 needs a model .* use --reasoning off"):
        engine.generate(request(reasoning=9))


TURNS: tuple[Turn, ...] = (("system", "be brief"), ("user", "one?"), ("assistant", "a0"))


def test_a_chat_is_told_in_order_before_the_prompt(bare: TransformersEngine) -> None:
    told = bare.chat.prompt(request(history=TURNS, reasoning=1))
    assert told.text == "[system]be brief\n[user]one?\n[assistant]a0\n[user]which one?\n[assistant]"
    assert bare.generate(request(history=TURNS))[0].text != bare.generate(request())[0].text


def test_a_chat_without_room_forgets_its_oldest_turns_and_says_so(bare: TransformersEngine) -> None:
    long: tuple[Turn, ...] = (*TURNS, ("user", "two?" + " " * 430), ("assistant", "b1"))
    room = bare.generate(request(history=TURNS))[0]
    none = bare.generate(request(history=long))[0]
    assert room.forgotten == 0 and none.forgotten == 4
    assert none.text == bare.generate(request(history=TURNS[:1]))[0].text
    with pytest.raises(UserError, match="exceed the model's context of 512"):
        bare.generate(request(max_tokens=511))


def test_untuned_needs_no_adapters_and_takes_none(model_folder: Path, bare: TransformersEngine) -> None:
    assert set(bare.describe()["model"]) == {"base"} and bare.describe()["encoding"] == "native"
    known = engines.load("transformers", model_folder, tuned=False).describe()
    assert known["encoding"] == "compact" and known["sources"] == {"nothing": "0" * 64}, "what the base was trained on"
    with pytest.raises(UserError, match="leave them out"):
        engines.load("transformers", model_folder, tuned=False, navigator=model_folder / "navigator")
    with pytest.raises(UserError, match=r"no navigator adapter in .*--preset paper"):
        engines.load("transformers", model_folder / "base")
