"""Python functions as evaluators."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from collm_nas.api import Evaluation, EvaluationError, UserError, Variable
from collm_nas.evaluators import function
from collm_nas.spaces.base import CategoricalSpace

SPACE = CategoricalSpace("s", [Variable("a", ("p", "q", "r"))])
ARCHS = list(SPACE.all())


def score(arch):
    return arch.choices[0] * 2


def test_numbers_dicts_and_evaluations():
    assert [e.fitness for e in function.create(SPACE, score).evaluate(ARCHS)] == [0.0, 2.0, 4.0]
    (one,) = function.create(SPACE, lambda a: {"fitness": np.float32(0.5), "costs": {"flops": 3}}).evaluate(ARCHS[:1])
    assert (one.fitness, one.costs) == (0.5, {"flops": 3.0})
    assert type(one.fitness) is float
    (one,) = function.create(SPACE, lambda a: Evaluation(1.0, {"params": 2}, seconds=7.0)).evaluate(ARCHS[:1])
    assert (one.fitness, one.costs, one.seconds, one.error) == (1.0, {"params": 2.0}, 7.0, None)


def test_the_standard_error_is_kept():
    (one,) = function.create(SPACE, lambda a: Evaluation(1.0, error=0.5)).evaluate(ARCHS[:1])
    (two,) = function.create(SPACE, lambda a: {"fitness": 1.0, "error": np.float64(0.25)}).evaluate(ARCHS[:1])
    assert (one.error, two.error) == (0.5, 0.25)
    with pytest.raises(EvaluationError, match="'nan' as standard error"):
        function.create(SPACE, lambda a: Evaluation(1.0, error=math.nan)).evaluate(ARCHS)


@pytest.mark.parametrize(
    ("value", "everywhere"),
    [
        *((value, False) for value in (math.nan, math.inf, None, {"fitness": None}, Evaluation(-math.inf))),
        *((value, True) for value in ("0.5", True, [1, 2], {"accuracy": 1}, np.array([1.0, 2.0]))),
    ],
    ids=str,
)
def test_what_is_no_number(value, everywhere):
    """What is of a wrong kind would be so for every architecture; NaN is one network that diverged."""
    with pytest.raises(EvaluationError, match=r"^mine returned ") as error:
        function.create(SPACE, lambda a: value, name="mine").evaluate([ARCHS[1]])
    assert error.value.everywhere == everywhere


def test_a_dict_without_fitness_and_bad_costs():
    with pytest.raises(EvaluationError, match="without 'fitness'; its keys are accuracy"):
        function.create(SPACE, lambda a: {"accuracy": 1}).evaluate(ARCHS)
    with pytest.raises(EvaluationError, match="'nan' as cost 'flops'"):
        function.create(SPACE, lambda a: {"fitness": 1, "costs": {"flops": math.nan}}).evaluate(ARCHS)
    with pytest.raises(EvaluationError, match="3 as costs; return a number for each name"):
        function.create(SPACE, lambda a: {"fitness": 1, "costs": 3}).evaluate(ARCHS)


def test_an_error_in_words_says_why():
    with pytest.raises(EvaluationError, match=r"^it diverged$"):
        function.create(SPACE, lambda a: {"error": "it diverged"}).evaluate(ARCHS)


def test_a_failure_of_the_function_is_not_hidden():
    def broken(arch):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        function.create(SPACE, broken).evaluate(ARCHS)


def test_protocol_is_json_and_names_the_function():
    evaluator = function.create(SPACE, score)
    assert json.loads(json.dumps(evaluator.protocol()))["function"].endswith(":score")
    assert evaluator.costs(ARCHS[0]) == evaluator.report(ARCHS[0]) == {}
    with pytest.raises(UserError, match="callable"):
        function.create(SPACE, 3)
