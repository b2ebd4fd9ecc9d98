"""What scores architectures (`api.Evaluator`): one kind a file.

`table` looks them up in a CSV or Parquet file, `function` calls Python code, `command` runs any program; `parallel` has
several workers do it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from collm_nas.api import Architecture, Evaluation, Evaluator


def timed(evaluator: Evaluator, arch: Architecture, best: float | None = None) -> Evaluation:
    """One evaluation, with the seconds that it took where the evaluator does not say.

    `best`: the best feasible fitness when the batch was asked for, which an evaluator that is `bounded` is told.
    """
    began = time.monotonic()
    told: Any = {"best": best} if getattr(evaluator, "bounded", False) else {}
    evaluation = evaluator.evaluate([arch], **told)[0]
    return evaluation if evaluation.seconds else replace(evaluation, seconds=time.monotonic() - began)
