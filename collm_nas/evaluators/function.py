"""Any Python function as an evaluator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, SupportsFloat, SupportsIndex, cast

from collm_nas.api import Architecture, Evaluation, EvaluationError, SearchSpace, UserError


@dataclass(frozen=True)
class FunctionEvaluator:
    """Calls `function(arch)`: a number (higher is better), an `Evaluation`, or a dict of `fitness`, `costs`, `error`.

    `error`: the standard error of the fitness, where the function knows it; a text says why there is no fitness."""

    space: SearchSpace
    function: Callable[[Architecture], Any]
    name: str

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """One call each, in order; EvaluationError where no finite number comes back."""
        return [self._evaluate(arch) for arch in archs]

    def costs(self, arch: Architecture) -> dict[str, float]:
        """None are known before the call."""
        return {}

    def report(self, arch: Architecture) -> dict[str, float]:
        """Nothing is held back from the search."""
        return {}

    def protocol(self) -> dict[str, Any]:
        """The function's name; code has no hash that would identify a measurement."""
        return {
            "source": "function",
            "function": self.name,
            "sha256": None,
            "fitness": "value",
            "report": [],
            "source_hashes": [],
        }

    def _evaluate(self, arch: Architecture) -> Evaluation:
        start = time.perf_counter()
        value = self.function(arch)
        return evaluation_of(value, self.name, time.perf_counter() - start)


def evaluation_of(value: Any, name: str, seconds: float = 0.0) -> Evaluation:
    """What a function (or command) `name` returned, as an evaluation; EvaluationError where it tells no fitness."""
    fitness, costs, error = value, cast("Mapping[str, object]", {}), None
    if isinstance(value, Evaluation):
        fitness, costs, error, seconds = value.fitness, value.costs, value.error, value.seconds or seconds
    elif isinstance(value, Mapping):
        if isinstance(value.get("error"), str):
            raise EvaluationError(value["error"])
        if "fitness" not in value:
            keys = ", ".join(map(str, value))
            raise EvaluationError(f"{name} returned a dict without 'fitness'; its keys are {keys}", everywhere=True)
        fitness, costs, error = value["fitness"], value.get("costs", {}), value.get("error")
    if not isinstance(costs, Mapping):
        raise EvaluationError(f"{name} returned {costs!r:.40} as costs; return a number for each name", everywhere=True)
    numbers = {cost: _number(number, f"cost {cost!r}", name) for cost, number in costs.items()}
    error = None if error is None else _number(error, "standard error", name)
    return Evaluation(_number(fitness, "fitness", name), numbers, seconds, name, error)


def _number(value: object, what: str, name: str) -> float:
    number, typed = math.nan, value is None
    if not isinstance(value, str | bytes | bool):
        with suppress(TypeError, ValueError, OverflowError):
            number, typed = float(cast("SupportsFloat | SupportsIndex", value)), True
    if not math.isfinite(number):
        shown = repr(str(value)[:40])
        raise EvaluationError(f"{name} returned {shown} as {what}; return a finite number", everywhere=not typed)
    return number


def create(space: SearchSpace, function: Callable[[Architecture], Any], name: str = "") -> FunctionEvaluator:
    """The function as an evaluator of architectures of this space; its own qualified name where none is given."""
    if not callable(function):
        raise UserError(f"an evaluator must be callable with an architecture, but got {function!r:.80}")
    own = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    return FunctionEvaluator(space, function, name or own)
