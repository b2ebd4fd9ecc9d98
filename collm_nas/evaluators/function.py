"""Any Python function as an evaluator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat, SupportsIndex, cast

from collm_nas.api import Architecture, Evaluation, SearchSpace, UserError


@dataclass(frozen=True)
class FunctionEvaluator:
    """Calls `function(arch)`: a number (higher is better), an `Evaluation`, or a dict of `fitness`, `costs`, `error`.

    `error`: the standard error of the fitness, where the function knows it."""

    space: SearchSpace
    function: Callable[[Architecture], Any]
    name: str

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """One call each, in order; UserError names the architecture for which no finite number came back."""
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
        value: Any = self.function(arch)
        seconds = time.perf_counter() - start
        fitness, costs, error = value, cast("Mapping[str, object]", {}), None
        if isinstance(value, Evaluation):
            fitness, costs, error, seconds = value.fitness, value.costs, value.error, value.seconds or seconds
        elif isinstance(value, Mapping):
            if "fitness" not in value:
                raise UserError(
                    f"{self.name} returned a dict without 'fitness' for {self._spell(arch)}; "
                    f"its keys are {', '.join(map(str, value))}"
                )
            fitness, costs, error = value["fitness"], value.get("costs", {}), value.get("error")
        numbers = {cost: self._number(number, f"cost {cost!r}", arch) for cost, number in costs.items()}
        error = None if error is None else self._number(error, "standard error", arch)
        return Evaluation(self._number(fitness, "fitness", arch), numbers, seconds, self.name, error)

    def _number(self, value: object, what: str, arch: Architecture) -> float:
        number = math.nan
        if not isinstance(value, str | bytes | bool):
            try:
                number = float(cast("SupportsFloat | SupportsIndex", value))
            except (TypeError, ValueError, OverflowError):
                number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{self.name} returned {str(value)[:40]!r} as {what} for {self._spell(arch)}; return a finite number"
            )
        return number

    def _spell(self, arch: Architecture) -> str:
        return repr(self.space.format(arch))


def create(space: SearchSpace, function: Callable[[Architecture], Any], name: str = "") -> FunctionEvaluator:
    """The function as an evaluator of architectures of this space; its own qualified name where none is given."""
    if not callable(function):
        raise UserError(f"an evaluator must be callable with an architecture, but got {function!r:.80}")
    own = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    return FunctionEvaluator(space, function, name or own)
