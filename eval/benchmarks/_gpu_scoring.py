"""Subnets a second on a device against a plain loop over a DataLoader, and the share of the device's peak."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRIES, PRODUCTS = 5, 10
"""The peak is the best of so many tries of so many products."""
DRAWN = 500
"""Subnets whose mean cost stands for that of those that were timed."""


def scoring(
    device: str,
    work: Path,
    *,
    space: str,
    recipe: Mapping[str, Any],
    subnets: int,
    rounds: int,
    side: int,
    data: str | None = None,
) -> dict[str, Any]:
    """What `supernet_speed.run` finds for a supernet that is trained here first, for one epoch: speed asks for no
    better weights. `recipe`: arguments of `session.train`; `side` of the matrices that the peak is measured with."""
    from collm_nas.evaluators import supernet as evaluators
    from collm_nas.supernets import session, store
    from eval.benchmarks import supernet_speed

    folder = work / space
    session.train(space, data, folder, device=device, epochs=1, **recipe)
    found = supernet_speed.run(str(folder), data, subnets, rounds)
    each = multiply_adds(evaluators.space_of(folder / store.FILE, None))
    achieved = each * sum(found["images"].values()) / found["seconds_per_subnet"]["ours"]
    best = peak(device, side)
    return {
        **found,
        "subnets_per_second": {name: round(1 / s, 3) for name, s in found["seconds_per_subnet"].items()},
        "multiply_adds_per_image": round(each),
        "multiply_adds_per_second": float(f"{achieved:.3g}"),
        "peak_multiply_adds_per_second": float(f"{best:.3g}"),
        "share_of_peak": float(f"{achieved / best:.3g}"),
    }


def multiply_adds(space: Any) -> float:
    """Of one image, the mean over subnets of the space."""
    rng = random.Random(0)
    return statistics.mean(space.cost(space.sample(rng))["flops"] for _ in range(DRAWN))


def peak(device: str, side: int) -> float:
    """Multiply-adds a second of products of two large float16 matrices, (side, side) each."""
    import torch

    a_SS, b_SS = (torch.randn(side, side, device=device).half() for _ in range(2))
    seconds = []
    for _ in range(TRIES + 1):  # the first one warms up
        _wait(device)
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            a_SS @ b_SS
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return PRODUCTS * side**3 / min(seconds[1:])


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
