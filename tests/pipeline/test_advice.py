"""A user's word in a search with a model: a hint in each prompt, a strategy that was changed, both after a resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collm_nas import optimizers, prompts, search, spaces
from collm_nas.api import Candidate, Evaluation, Observation, Problem, UserError
from collm_nas.evaluators import table
from tests.inference.small import build_model

SPACE = spaces.load("digits-cells")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


def run(model: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    """The events of a short search."""
    evaluator = table.load(SPACE, "digits-cells", fitness="valid")
    search(SPACE, evaluator, model=model, out=out, init=5, batch=5, seed=0, **options)
    return [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]


def of(events: list[dict[str, Any]], event: str, role: str) -> list[dict[str, Any]]:
    return [e for e in events if e["event"] == event and e["role"] == role]


def test_a_hint_is_in_each_prompt_of_the_navigator(model: Path, tmp_path: Path) -> None:
    events = run(model, tmp_path / "run", budget=15, hint="avoid silu; prefer op1 conv3")
    assert events[0]["options"]["hint"] == "avoid silu; prefer op1 conv3"
    prompts = of(events, "prompt", "navigator")
    assert len(prompts) == 2 and all("<hint>b0f0f1<best>" in e["prompt"] for e in prompts)
    assert not any("<hint>" in e["prompt"] for e in of(events, "prompt", "generator"))


def test_a_run_with_another_hint_is_another_run(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", budget=10, hint="avoid silu")
    with pytest.raises(UserError, match="hint"):
        run(model, tmp_path / "run", budget=15, hint="prefer silu", resume=True)


def test_version_1_has_no_hints(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "old")
    manifest = tmp_path / "old" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "digest_version": 1}))
    with pytest.raises(UserError, match="this model reads digests of version 1, which have no hints"):
        run(tmp_path / "old", tmp_path / "run", budget=10, hint="avoid silu")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def advised(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, as if it had met advice in its training."""
    folder = tmp_path_factory.mktemp("advised") / "model"
    shutil.copytree(model, folder)
    manifest = folder / "manifest.json"
    told = {**json.loads(manifest.read_text()), "datasets": [{"settings": {"advised": 0.5}}]}
    manifest.write_text(json.dumps(told))
    return folder


def test_an_advisor_is_read_and_hears_of_everything(advised: Path, tmp_path: Path) -> None:
    events = run(advised, tmp_path / "run", budget=15, advisor="gp-exp")
    assert events[0]["options"]["advisor"] == "gp-exp" and events[0]["engine"]["advice"] is True
    asked = of(events, "prompt", "navigator")
    known = [(SPACE.parse(e["arch"]), e["fitness"]) for e in events if e["event"] == "evaluation"]
    assert len(asked) == 2 and len(known) == 15
    for seen, event in zip((5, 10), asked, strict=True):
        rival = optimizers.create("gp-exp", Problem(SPACE, 0, 15))
        for start in range(0, seen, 5):
            told = [Observation(Candidate(a, "model"), "evaluated", Evaluation(f)) for a, f in known[start : start + 5]]
            rival.tell(told)
        advice = [SPACE.format(c.arch, "compact") for c in rival.ask(prompts.shown_advice(SPACE)) if c.arch]
        assert "<advice>" + "".join(f"<a>{text}" for text in advice) + "<past>" in event["prompt"]


def test_a_search_with_an_advisor_goes_on_as_it_would_have(advised: Path, tmp_path: Path) -> None:
    whole = run(advised, tmp_path / "whole", budget=20, advisor="gp-exp")
    run(advised, tmp_path / "half", budget=10, advisor="gp-exp")
    half = run(advised, tmp_path / "half", budget=20, advisor="gp-exp", resume=True)
    found = [[e["arch"] for e in events if e["event"] == "evaluation"] for events in (whole, half)]
    assert found[0] == found[1]


def test_an_advisor_follows_the_weights_of_several_objectives_or_is_refused(advised: Path, tmp_path: Path) -> None:
    several: dict[str, Any] = {"budget": 15, "objective": ["fitness", "flops"]}
    events = run(advised, tmp_path / "run", advisor="gp-exp", **several)
    assert all("<advice>" in e["prompt"] for e in of(events, "prompt", "navigator"))
    with pytest.raises(UserError, match="--advisor nsga2 has its own way with several objectives"):
        run(advised, tmp_path / "refused", advisor="nsga2", **several)
    assert not (tmp_path / "refused").exists()


def test_a_model_that_never_met_advice_refuses_it(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--advisor: this model never learnt to read advice"):
        run(model, tmp_path / "run", budget=10, advisor="gp-exp")
    assert not (tmp_path / "run").exists()


def test_a_strategy_that_was_changed_is_what_the_generator_reads(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", typing("prefer silu", "", ""))
    events = run(model, tmp_path / "run", budget=15, interactive=True)
    changed, left = of(events, "prompt", "generator")
    assert "f2f2<s3>" in changed["prompt"] and changed["prompt"].count("f2") == 5  # three anchors, the direction
    assert left["prompt"].startswith(of(events, "completion", "navigator")[1]["texts"][0])
    monkeypatch.setattr("builtins.input", typing(""))  # one round more, one question more
    again = run(model, tmp_path / "run", budget=20, interactive=True, resume=True)
    assert of(again, "prompt", "generator")[:2] == [changed, left]
    assert len(of(again, "prompt", "generator")) == 3


def typing(*lines: str) -> Callable[[str], str]:
    """Answers these, and fails where it is asked once more."""
    rest = list(lines)
    return lambda _: rest.pop(0)
