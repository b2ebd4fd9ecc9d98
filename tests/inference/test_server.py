"""The engine on a server: the wire format as servers have it, real answers, honest counts, and what goes wrong."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from collm_nas import search, spaces
from collm_nas.api import Caps, Constraint, Problem, Request, Role, UserError
from collm_nas.cli import main
from collm_nas.constraints.remaining import within
from collm_nas.spaces.base import CategoricalSpace
from inference import engines
from inference.engines import server
from inference.engines.transformers import TransformersEngine
from inference.engines.transformers import create as create_here
from tests.inference.serving import Serving, serve

DIALECTS = ("structured_outputs", "guided_regex", "grammar", "response_format")
SPACE = spaces.load("digits-cells")
PROMPTS: dict[Role, str] = {"navigator": "<digest>a0b1<nav>", "generator": "<a>a0b1c0<gen>"}
Start = Callable[..., Serving]


@pytest.fixture(scope="module")
def writer(model_folder: Path) -> TransformersEngine:
    """Who writes the server's answers: its grammar backend takes every kind of constraint."""
    return create_here(model_folder, backend="llguidance")


@pytest.fixture
def start(writer: TransformersEngine) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **given: stack.enter_context(serve(Serving(engine=writer, **given)))


def load(model: Path, serving: Serving, **given: Any) -> server.ServerEngine:
    made = engines.load("server", model, server=serving.address, sampling="rejection", **given)
    assert isinstance(made, server.ServerEngine)
    return made


def request(space: CategoricalSpace = SPACE, mode: str = "legal", **others: Any) -> Request:
    given = {"role": "generator", "n": 6, "seed": 3, "temperature": 1.0, "max_tokens": 80, **others}
    mask = within(space, "compact", {}, space.cost) if mode == "new" else None
    constraint = None if mode == "free" else Constraint("regex", space.regex("compact"))
    return Request(prompt=PROMPTS[given["role"]], constraint=constraint, mask=mask, **given)


def fewest(arch: Any) -> float:
    return -SPACE.cost(arch)["params"]


# --- what it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_is_found_and_keeps_answers_legal(model_folder: Path, start: Start, dialect: str) -> None:
    engine = load(model_folder, start(dialect=dialect, longest=200))
    assert engine.able.dialect is not None and engine.able.dialect.name == dialect
    assert engine.able.rows == 16 and engine.able.seeds and engine.able.logprobs
    answers = engine.generate(request())
    assert len(answers) == 6 and all(a.finished and a.tokens for a in answers)
    assert all(SPACE.format(SPACE.parse(a.text, "compact"), "compact") == a.text for a in answers)
    assert [a.text for a in engine.generate(request())] == [a.text for a in answers]
    assert [a.text for a in engine.generate(request(seed=4))] != [a.text for a in answers]
    assert engine.describe()["constraint"] == dialect and engine.describe()["encoding"] == "compact"


@pytest.mark.parametrize("role", ["navigator", "generator"])
def test_it_says_what_the_model_says_here(
    model_folder: Path, engine: TransformersEngine, start: Start, role: Role
) -> None:
    serving = start()
    (there,) = load(model_folder, serving).generate(request(role=role, n=1, temperature=0.0))
    (here,) = engine.generate(request(role=role, n=1, temperature=0.0))
    assert (there.text, there.tokens, there.prompt_tokens) == (here.text, here.tokens, here.prompt_tokens)
    path, body = serving.asked[-1]
    assert path == "/v1/completions" and body["prompt"] == PROMPTS[role] and body["model"] == role


@pytest.mark.parametrize("rows", [1, 4])
def test_a_server_that_gives_few_answers_at_once_is_asked_more_often(
    model_folder: Path, start: Start, rows: int
) -> None:
    serving = start(rows=rows)
    engine = load(model_folder, serving)
    before = len(serving.asked)
    assert engine.able.rows == rows and len(engine.generate(request())) == 6
    seeds = [body["seed"] for _, body in serving.asked[before:]]
    assert seeds == [*range(3, 9)][::rows]


def test_few_strings_that_are_left_are_listed_so_that_new_holds_by_construction(
    model_folder: Path, start: Start
) -> None:
    small = CategoricalSpace("small", SPACE.variables[:2])
    for dialect in ("structured_outputs", "response_format"):
        engine = load(model_folder, start(dialect=dialect, longest=200))
        everything = [a.text for a in engine.generate(request(small, "new", n=small.size + 3))]
        assert sorted(everything) == sorted(small.format(arch, "compact") for arch in small.all())


def test_caps_hold_by_construction_where_few_are_left(model_folder: Path, start: Start) -> None:
    from collm_nas.coordinator import create

    limit = sorted(SPACE.cost(arch)["flops"] for arch in SPACE.all())[60]
    problem = Problem(SPACE, 0, 50, Caps({"flops": limit}), SPACE.cost)
    found = create(problem, load(model_folder, start()), decoding="affordable").ask(4)
    assert len(found) >= 4 and all(c.arch is not None and SPACE.cost(c.arch)["flops"] <= limit for c in found)


def test_what_the_mask_forbids_comes_back_and_is_counted(model_folder: Path, start: Start) -> None:
    """A cold model repeats itself; asking again is no free lunch, and the result says so."""
    engine = load(model_folder, start())
    result = search(SPACE, fewest, model=engine, budget=14, init=4, temperature=0.01)
    model = result["counts_by_proposer"]["model"]
    assert model["attempted"] == model["valid"] > model["unique"] >= model["evaluated"] > 0
    assert result["tokens"]["completion"] > 0


def test_an_illegal_answer_is_attempted_and_not_valid(model_folder: Path, start: Start) -> None:
    serving = start()
    engine = load(model_folder, serving)
    serving.illegal = "a9"
    assert [a.text for a in engine.generate(request())] == ["a9"] * 6
    with pytest.raises(UserError, match="doesn't keep to the constraint: its answer is 'a9'"):
        engine.generate(request(role="navigator", n=1))


def test_a_server_without_constraints_is_for_free_decoding(model_folder: Path, start: Start) -> None:
    engine = load(model_folder, start(dialect=None))
    assert engine.able.dialect is None
    with pytest.raises(UserError, match=r"takes no constraint .* use --decoding free"):
        engine.generate(request())
    result = search(SPACE, fewest, model=engine, budget=8, init=4, decoding="free", encoding="compact")
    model = result["counts_by_proposer"]["model"]
    assert model["attempted"] > model["valid"]


def test_the_papers_chat_goes_by_messages_and_forgets_what_has_no_room(start: Start) -> None:
    serving = start(models=("some/chat-model",), context=9000)
    engine = load(Path("unused"), serving, tuned=False)
    result = search(
        SPACE, fewest, model=engine, preset="paper", decoding="legal", budget=12, batch=4, over_cap="reject"
    )
    assert result["counts_by_proposer"]["model"]["evaluated"] > 0
    assert {path for path, _ in serving.asked[1:]} == {"/v1/chat/completions"}
    assert serving.asked[-1][1]["messages"][0]["role"] == "system"
    assert engine.describe()["served"] == {"navigator": "some/chat-model", "generator": "some/chat-model"}
    chat = [("system", "be brief"), *[("user", "x" * 300), ("assistant", "y")] * 40]
    (answer,) = engine.generate(Request("navigator", "and now?", 1, 0, 1.0, 5, history=tuple(chat)))  # type: ignore[arg-type]
    told = serving.asked[-1][1]["messages"]
    assert answer.forgotten == len(chat) + 1 - len(told) > 0
    assert told[0]["content"] == "be brief" and told[1]["role"] == "user" and told[-1]["content"] == "and now?"


def test_another_model_than_the_named_one_is_noticed(start: Start) -> None:
    """The tiny model cuts pairs as the embedded one does, but the server may read more: as here, by what it tells."""
    serving = start()
    told = serving.answer
    serving.answer = lambda path, body: {**told(path, body), "usage": {"prompt_tokens": 99}}  # type: ignore[method-assign]
    with pytest.raises(UserError, match="reads 99 tokens in a prompt of which the tuned model makes"):
        engines.load("server", Path("embedded"), server=serving.address)


def test_a_server_that_ignores_seeds_is_warned_of(
    model_folder: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    assert not load(model_folder, start(seeds=False)).able.seeds
    assert "doesn't keep to seeds" in caplog.text


@pytest.mark.parametrize(
    "models, named, expected",
    [
        ("base navigator generator", None, "navigator generator"),
        ("only", None, "only only"),
        ("a b", "b", "b b"),
        ("a b", "navigator=a,generator=b", "a b"),
        ("a navigator", "generator=a", "navigator a"),
        ("a b", None, "several models, none of them called navigator; it has a, b"),
        ("a b", "c", "the server has no model 'c'; it has a, b"),
        ("a b", "navigator=a,critic=b", "must be a name, or navigator=NAME,generator=NAME"),
    ],
)
def test_which_model_plays_which_role(models: str, named: str | None, expected: str) -> None:
    from inference.engines._models import Served, roles

    known = [Served(name, None) for name in models.split()]
    if " " in expected and len(expected.split()) > 2:
        with pytest.raises(UserError, match=re.escape(expected)):
            roles(known, named)
    else:
        assert [model.name for model in roles(known, named).values()] == expected.split()


# --- a whole search, on the command line ------------------------------------------------------------------------------


def command(serving: Serving, out: Path, *more: str) -> list[str]:
    given = ["--engine", "server", "--server", serving.address, "--budget", "9", "--init", "4", "--batch", "2"]
    return ["search", *given, "--out", str(out), *more]


@pytest.fixture
def embedded(start: Start) -> Start:
    """A server of the embedded model."""
    writer = create_here(Path("embedded"), backend="llguidance")
    return lambda **given: replace_engine(start(**given), writer)


def replace_engine(serving: Serving, engine: TransformersEngine) -> Serving:
    serving.engine = engine
    return serving


def test_a_search_that_loses_its_server_goes_on_where_it_was(
    embedded: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLM_NAS_SERVER_KEY", "sesame-7")
    monkeypatch.setattr("inference.engines._http.WAITS", (0.0,))
    serving = embedded(key="sesame-7")
    assert main(command(serving, tmp_path / "whole")) == 0
    asked = len(serving.asked)
    whole = json.loads((tmp_path / "whole" / "result.json").read_text())
    real, count = serving.answer, itertools.count()

    def dies(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if next(count) > asked - 3:
            serving.failures += [(503, "loading sesame-7")] * 9
        return real(path, body)

    serving.answer = dies  # type: ignore[method-assign]
    capsys.readouterr()
    assert main(command(serving, tmp_path / "cut")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "fails (503: loading ***); start it" in said and "--resume" in said
    serving.answer = real  # type: ignore[method-assign]
    serving.failures.clear()
    assert main(command(serving, tmp_path / "cut", "--resume")) == 0
    result = json.loads((tmp_path / "cut" / "result.json").read_text())
    assert result["history"] == whole["history"] and result["seen"] == "unseen"
    assert "sesame-7" not in "".join(path.read_text() for path in (tmp_path / "cut").iterdir())
    before = len(serving.asked)
    assert main(command(serving, tmp_path / "cut", "--resume")) == 0
    assert len(serving.asked) == before, "a finished run asks nothing"


def test_doctor_tells_what_a_server_can(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    serving = start(dialect="grammar", rows=4)
    assert main(["doctor", "--server", serving.address]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "serves base, navigator, generator: 4 answers at once, keeps to seeds, tells logprobs" in said
    assert "takes constraints as grammar" in said
    serving.dialect = None
    assert main(["doctor", "--server", serving.address, "--json"]) == 2
    assert "takes no constraint" in capsys.readouterr().out
