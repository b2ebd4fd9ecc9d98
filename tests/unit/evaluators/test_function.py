"""Python functions as evaluators."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from collm_nas.api import Evaluation, UserError, Variable
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
    with pytest.raises(UserError, match="nan' as standard error for 'p'"):
        function.create(SPACE, lambda a: Evaluation(1.0, error=math.nan)).evaluate(ARCHS)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, None, "0.5", True, [1, 2], {"fitness": None}, np.array([1.0, 2.0])]
)
def test_what_is_no_number_names_the_architecture(value):
    evaluator = function.create(SPACE, lambda a: value, name="mine")
    with pytest.raises(UserError, match=r"mine returned .* for 'q'"):
        evaluator.evaluate([ARCHS[1]])


def test_a_dict_without_fitness_and_a_bad_cost():
    with pytest.raises(UserError, match="without 'fitness' for 'p'; its keys are accuracy"):
        function.create(SPACE, lambda a: {"accuracy": 1}).evaluate(ARCHS)
    with pytest.raises(UserError, match="cost 'flops' for 'p'"):
        function.create(SPACE, lambda a: {"fitness": 1, "costs": {"flops": math.nan}}).evaluate(ARCHS)


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
