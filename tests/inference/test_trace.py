"""Answers token by token: the law that each was drawn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collm_nas import rollouts
from collm_nas.evaluators.landscape import Family, draw
from inference import engines
from inference.engines.transformers import TransformersEngine
from tests.inference.small import build_model

MADE = draw(5, family=Family(variables=(4, 4), choices=(3, 4), conditional=0.0, capped=0.0))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TransformersEngine:
    made = engines.load("transformers", build_model(tmp_path_factory.mktemp("trace")), sampling="rejection")
    assert isinstance(made, TransformersEngine)
    return made


def test_a_trace_is_the_answer_with_the_law_it_was_drawn_from(engine: TransformersEngine) -> None:
    [point] = rollouts.points(MADE, engine, (10,), seed=1)
    request = replace(point.navigator, n=4, seed=9)
    answers, traces = engine.generate(request), engine.trace(request)
    assert [one.text for one in traces] == [one.text for one in answers]
    for answer, trace in zip(answers, traces, strict=True):
        assert sum(trace.logps) == pytest.approx(answer.logp_masked, abs=1e-9)
        assert trace.tokens[-1] == engine.tokenizer.eos_token_id and len(trace.tokens) == answer.tokens + 1
        assert all(token in ids for token, ids in zip(trace.tokens, trace.allowed, strict=True))
        assert all(logp == 0 for logp, ids in zip(trace.logps, trace.allowed, strict=True) if len(ids) == 1)
        assert any(len(ids) > 1 for ids in trace.allowed)


def test_a_trace_of_a_masked_request_is_refused(engine: TransformersEngine, tmp_path: Path) -> None:
    [point] = rollouts.points(MADE, engine, (10,), seed=1)
    with pytest.raises(AssertionError, match="drawn among other tokens"):
        engine.trace(point.generator)
