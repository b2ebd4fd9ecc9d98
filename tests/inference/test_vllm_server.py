"""The engine on a server against vLLM's own: what the embedded model and its adapters say is what they say here.

Runs where vLLM is installed (`make vllm`; `.ci/run --long`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collm_nas import prompts, search, spaces, strategy
from collm_nas.api import Caps, Constraint, Problem, Request, Role
from collm_nas.constraints.remaining import within
from collm_nas.evaluators import table
from collm_nas.spaces.base import CategoricalSpace
from inference import engines
from inference.folder import EMBEDDED, ModelFolder
from tests.inference.started import started

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(1800),
]
SPACE = spaces.load("digits-cells")
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """On a server as the README starts it."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(EMBEDDED / "base")]
    command += ["--dtype", "float32", "--enforce-eager", "--enable-lora", "--max-loras", "3", "--lora-modules"]
    command += [f"{role}={EMBEDDED / role}" for role in ("navigator", "generator")]
    log = tmp_path_factory.mktemp("server") / "log"
    with started(command, log, QUIET, 900) as address:
        yield engines.load("server", "embedded", server=address, sampling="rejection")


def prompt(role: Role) -> str:
    """What a search comes to after ten evaluations."""
    rng = Random(0)
    archs = [SPACE.sample(rng) for _ in range(10)]
    if role == "generator":
        return prompts.generator_prompt(SPACE, prompts.empty_strategy(SPACE, archs[: strategy.ANCHORS]))
    values = [-SPACE.cost(arch)["params"] for arch in archs]
    return prompts.digest(SPACE, archs, values, version=ModelFolder.open(EMBEDDED).digest_version)


def request(role: Role, **others: Any) -> Request:
    regex = strategy.regex(SPACE) if role == "navigator" else SPACE.regex("compact")
    given = {"n": 1, "seed": 3, "temperature": 1.0, "max_tokens": 120, "constraint": Constraint("regex", regex)}
    return Request(role=role, prompt=prompt(role), **{**given, **others})


def test_what_it_can(engine: Any) -> None:
    assert engine.describe()["constraint"] == "structured_outputs"
    assert engine.describe()["served"] == {"navigator": "navigator", "generator": "generator"}
    assert (engine.able.rows, engine.able.seeds, engine.able.logprobs) == (16, True, True)


@pytest.mark.parametrize("role", ["navigator", "generator"])
@pytest.mark.parametrize("free", [True, False])
def test_the_likeliest_answer_is_that_of_the_transformers_engine(engine: Any, role: Role, free: bool) -> None:
    here = engines.load("transformers", "embedded")
    asked = request(role, temperature=0.0, **({"constraint": None} if free else {}))
    (a,), (b,) = engine.generate(asked), here.generate(asked)
    assert (a.text, a.prompt_tokens, a.finished) == (b.text, b.prompt_tokens, b.finished)
    assert a.tokens == b.tokens + 1, "vLLM counts the end as well"


def test_equal_seeds_equal_answers(engine: Any) -> None:
    answers = [[a.text for a in engine.generate(request("generator", n=20, seed=seed))] for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2] and len(set(answers[0])) > 1
    assert all(SPACE.format(SPACE.parse(text, "compact"), "compact") == text for text in answers[0])


def test_new_goes_on_to_the_last_architecture(engine: Any) -> None:
    small = CategoricalSpace("small", SPACE.variables[:2])
    mask, legal = within(small, "compact", {}, small.cost), Constraint("regex", small.regex("compact"))
    everything = engine.generate(request("generator", n=small.size + 3, constraint=legal, mask=mask))
    assert sorted(a.text for a in everything) == sorted(small.format(arch, "compact") for arch in small.all())


def test_caps_hold(engine: Any) -> None:
    from collm_nas.coordinator import create

    limit = sorted(SPACE.cost(arch)["flops"] for arch in SPACE.all())[60]
    found = create(Problem(SPACE, 0, 50, Caps({"flops": limit}), SPACE.cost), engine, decoding="affordable").ask(4)
    assert len(found) >= 4 and all(c.arch is not None and SPACE.cost(c.arch)["flops"] <= limit for c in found)


def test_a_search(engine: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    evaluator = table.load(SPACE, "digits-cells", "valid", ["test"])
    result = search(SPACE, evaluator, model=engine, budget=20, out=tmp_path / "run")
    model = result["counts_by_proposer"]["model"]
    assert model["attempted"] == model["valid"] >= model["evaluated"] == 10
    # The grammar would let a pair be written as two tokens, which the model never met.
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    answers = [event for event in events if event["event"] == "completion"]
    tokens = AutoTokenizer.from_pretrained(EMBEDDED / "base")
    for event in answers:
        assert sum(event["tokens"]) == sum(len(tokens(text)["input_ids"]) + 1 for text in event["texts"])
