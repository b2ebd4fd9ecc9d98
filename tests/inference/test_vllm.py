"""The vLLM engine answers as the transformers engine does, in every mode, whatever vLLM makes of the batch.

Runs where vLLM is installed (`make vllm`; `.ci/run --long`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from collm_nas import spaces
from collm_nas.api import Caps, Constraint, Encoding, Problem, Request, Role
from collm_nas.constraints.remaining import within
from collm_nas.spaces.base import CategoricalSpace
from inference import engines
from inference.engines._local import LocalEngine
from tests.inference.small import build_model

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
    pytest.mark.filterwarnings("ignore"),  # its own, at every step
    pytest.mark.timeout(900),
]
PROMPTS: dict[Role, str] = {"navigator": "<digest>a0b1<nav>", "generator": "<a>a0b1c0<gen>"}
Pair = tuple[LocalEngine, LocalEngine]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def load(model: Path) -> Callable[..., Pair]:
    """Both engines on one model; each is loaded once."""
    known: dict[Any, Pair] = {}

    def pair(**options: Any) -> Pair:
        folder, key = options.pop("model", model), tuple(sorted(options.items()))
        if key not in known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                both = (engines.load(name, folder, **options) for name in ("transformers", "vllm"))
                known[key] = tuple(both)  # type: ignore[assignment]
        return known[key]

    return pair


@pytest.fixture(scope="module")
def tuned(load: Callable[..., Pair]) -> Pair:
    return load(sampling="rejection")


@pytest.fixture(scope="module")
def by_data(load: Callable[..., Pair], model: Path) -> Pair:
    """Without its manifest the tokenizer counts as one that merges nothing, and vLLM holds the grammar."""
    pair = load(model=model / "base", sampling="rejection", tuned=False, backend="xgrammar")
    assert not pair[1].measures and pair[0].measures
    return pair


def request(space: CategoricalSpace, encoding: Encoding, mode: str, **others: Any) -> Request:
    given = {"role": "generator", "n": 6, "seed": 3, "temperature": 1.0, "max_tokens": 80, **others}
    mask = within(space, encoding, {}, space.cost) if mode == "new" else None
    constraint = None if mode == "free" else Constraint("regex", space.regex(encoding))
    return Request(prompt=PROMPTS[given["role"]], constraint=constraint, mask=mask, **given)


def texts(engine: LocalEngine, asked: Request) -> list[str]:
    return [answer.text for answer in engine.generate(asked)]


@pytest.mark.parametrize("role", ["navigator", "generator"])
@pytest.mark.parametrize("mode", ["free", "legal", "new"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_both_engines_give_the_same_text(tuned: Pair, role: Role, mode: str, temperature: float) -> None:
    space = spaces.load("digits-cells")
    asked = request(space, "compact", mode, role=role, temperature=temperature)
    ours, theirs = (engine.generate(asked) for engine in tuned)
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert [a.tokens for a in ours] == [a.tokens for a in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.logp == (None if mode == "free" else pytest.approx(b.logp, rel=1e-3, abs=1e-3))


def test_adapters_in_turn_and_calls_before_change_nothing(tuned: Pair) -> None:
    space = spaces.load("digits-cells")
    engine = tuned[1]
    roles: tuple[Role, ...] = ("navigator", "generator")
    first = {role: texts(engine, request(space, "compact", "legal", role=role)) for role in roles}
    assert first["navigator"] != first["generator"]
    for role in (*roles[::-1], *roles):
        assert texts(engine, request(space, "compact", "legal", role=role)) == first[role]
    assert texts(engine, request(space, "compact", "legal", seed=4)) != first["generator"]


def test_more_rows_than_fit_at_once_are_still_distinct(tuned: Pair) -> None:
    """vLLM then starts some rows when others are done: they are drawn out of step."""
    space = spaces.load("digits-cells")
    many = texts(tuned[1], request(space, "compact", "new", n=60, temperature=0.3))
    assert len(set(many)) == 60
    assert all(space.format(space.parse(text, "compact"), "compact") == text for text in many)


@pytest.mark.parametrize("sampling", ["masked", "reweighted"])
@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_other_ways_of_sampling_are_the_same_too(load: Callable[..., Pair], sampling: str, top_p: float) -> None:
    small = CategoricalSpace("small", spaces.load("digits-cells").variables[:2])
    ours, theirs = (
        engine.generate(request(small, "compact", "new", temperature=2.0, top_p=top_p))
        for engine in load(sampling=sampling)
    )
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert [a.exact for a in ours] == [a.exact for a in theirs]


@pytest.mark.parametrize("mode", ["legal", "new"])
@pytest.mark.parametrize("name", ["digits-cells", "nasbench201"])
def test_grammars_as_data_allow_the_canonical_spellings_alone(by_data: Pair, mode: str, name: str) -> None:
    space = spaces.load(name)
    ours, theirs = (texts(engine, request(space, "native", mode, max_tokens=160)) for engine in by_data)
    assert ours == theirs
    assert all(space.format(space.parse(text)) == text for text in theirs)
    assert mode == "legal" or len(set(theirs)) == 6


def test_json_as_data(by_data: Pair) -> None:
    schema = '{"type":"object","properties":{"d":{"type":"array","items":{"enum":[2,3,4]},"minItems":3,"maxItems":3}},'
    asked = Request("generator", PROMPTS["generator"], 3, 0, 1.0, 60, Constraint("json", schema + '"required":["d"]}'))
    ours, theirs = (texts(engine, asked) for engine in by_data)
    assert ours == theirs and all(text.startswith('{"d":[') and text.endswith("]}") for text in theirs)


def test_new_goes_on_to_the_last_architecture(by_data: Pair, tuned: Pair) -> None:
    space = CategoricalSpace("small", spaces.load("digits-cells").variables[:2])
    for engine, encoding in ((by_data[1], "native"), (tuned[1], "compact")):
        everything = texts(engine, request(space, encoding, "new", n=space.size + 3, max_tokens=60))
        assert sorted(everything) == sorted(space.format(arch, encoding) for arch in space.all())


def test_a_search_on_vllm_is_the_search_on_transformers(tuned: Pair) -> None:
    from collm_nas import search

    space = spaces.load("digits-cells")

    def fewest(arch: Any) -> float:
        return -space.cost(arch)["params"]

    found = [search(space, fewest, model=engine, budget=20, seed=1) for engine in tuned]
    assert found[0]["history"] == found[1]["history"]
    assert set(found[1]["counts"].values()) == {20}


def test_caps_hold_on_vllm(tuned: Pair) -> None:
    from collm_nas.coordinator import create

    space = spaces.load("digits-cells")
    limit = sorted(space.cost(arch)["params"] for arch in space.all())[300]
    problem = Problem(space, 0, 50, Caps({"params": limit}), space.cost)
    found = create(problem, tuned[1], decoding="affordable").ask(8)
    assert found and all(c.arch is not None and space.cost(c.arch)["params"] <= limit for c in found)
