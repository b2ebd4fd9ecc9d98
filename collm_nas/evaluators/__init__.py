"""What scores architectures (`api.Evaluator`): one kind a file.

`table` looks them up in a CSV or Parquet file, `function` calls Python code, `command` runs any program; `parallel` has
several workers do it.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collm_nas.api import Architecture, Evaluation, EvaluationError, Evaluator, Failure, Outcome, UserError

_LONGEST = 400
"""Characters of a reason."""


def attempt(evaluator: Evaluator, arch: Architecture, best: float | None = None) -> Outcome:
    """One evaluation, with the seconds that it took where the evaluator does not say; a failure, whatever its code
    raises, and where fitness, costs or standard error are no finite numbers.

    `best`: the best feasible fitness when the batch was asked for, which an evaluator that is `bounded` is told.
    """
    began = time.monotonic()
    told: Any = {"best": best} if getattr(evaluator, "bounded", False) else {}
    try:
        evaluation = evaluator.evaluate([arch], **told)[0]
        _check(evaluation)
    except EvaluationError as error:
        return _failure(str(error), began, error.everywhere)
    except UserError as error:
        return _failure(str(error), began, True)
    except (Exception, SystemExit) as error:  # a user's code may raise anything, and one architecture ends no search
        return _failure(explained(error), began, isinstance(error, ImportError))
    return evaluation if evaluation.seconds else replace(evaluation, seconds=time.monotonic() - began)


def attempts(evaluator: Evaluator, archs: Sequence[Architecture], best: float | None) -> Iterator[Outcome]:
    """`attempt` for each, in order, as soon as it is there; an evaluator that has `evaluate_each` gets all at once."""
    each: Any = getattr(evaluator, "evaluate_each", None)
    return (attempt(evaluator, arch, best) for arch in archs) if each is None else each(archs, best)


def read_report(evaluator: Evaluator, arch: Architecture) -> dict[str, Any]:
    """`report`, the columns of the winner that are read once, and the `problem` where they could not be read."""
    try:
        return {"report": evaluator.report(arch)}
    except UserError:
        raise
    except Exception as error:  # the search is done, and its winner known
        return {"report": {}, "problem": one_line(explained(error))}


def explained(error: BaseException) -> str:
    """The kind of an error, what it says, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    said = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{said}{where}"


def one_line(text: str) -> str:
    """The text as a reason: in one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _failure(reason: str, began: float, everywhere: bool) -> Failure:
    return Failure(one_line(reason), time.monotonic() - began, everywhere)


def _check(evaluation: Evaluation) -> None:
    numbers = {"fitness": evaluation.fitness, **{f"cost {name!r}": value for name, value in evaluation.costs.items()}}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise EvaluationError(f"its {name} is {value}, but must be a finite number")
    error = evaluation.error
    if error is not None and not (math.isfinite(error) and error >= 0):
        raise EvaluationError(f"its standard error is {error}, but must be a finite number of at least 0")
