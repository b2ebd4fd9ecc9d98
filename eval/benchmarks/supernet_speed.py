"""Subnets scored a second: this project's evaluator against a plain loop over a DataLoader, on the same images.

`python -m eval.benchmarks.supernet_speed --supernet DIR --data DIR [--subnets 20]`. The plain loop is what the official
codes do for each candidate: cut it out, re-calibrate its BatchNorms on training images, then count right answers
on the held-out ones, all through `torch.utils.data.DataLoader`, with as many workers as there are cores. Both see the
same images in the same number; rounds of the two alternate, so that a noisy machine is unfair to neither.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from collm_nas.api import Architecture
from collm_nas.evaluators import supernet as evaluators
from collm_nas.images.inputs import Inputs
from collm_nas.images.split import Split
from collm_nas.supernets.base import extract
from collm_nas.supernets.recalibration import recalibrate

BATCH = 250


class Images(Dataset[tuple[Tensor, int]]):
    """A split read from its files, image by image."""

    def __init__(self, split: Split, inputs: Inputs) -> None:
        self.split, self.inputs, self.labels = split, inputs, split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        pixels_1CHW = self.split.take([i]).pixels(self.inputs)  # nothing is kept: the split is made anew
        return self.inputs.normalized(pixels_1CHW, torch.float32)[0], self.labels[i]


class PlainLoop:
    """One candidate after another, each through two DataLoaders."""

    def __init__(self, evaluator: evaluators.SupernetEvaluator, persistent: bool) -> None:
        self.evaluator, self.supernet = evaluator, evaluator.supernet
        inputs = evaluator.inputs(evaluator.space.sample(random.Random(0)))
        splits = evaluator.splits

        def loader(name: str, batch: int) -> DataLoader[tuple[Tensor, int]]:
            return DataLoader(
                Images(splits[name], inputs),
                batch,
                num_workers=os.cpu_count() or 1,
                persistent_workers=persistent,
                pin_memory=evaluator.device.type == "cuda",
            )

        self.calibration, self.valid = loader("calibration", len(splits["calibration"])), loader("valid", BATCH)

    @torch.no_grad()
    def __call__(self, arch: Architecture) -> float:
        """Accuracy in percent."""
        device = self.evaluator.device
        network = extract(self.supernet, arch).to(device)
        recalibrate(network, (x.to(device) for x, _ in self.calibration), "ofa")
        right = sum(int((network(x.to(device)).argmax(1) == y.to(device)).sum()) for x, y in self.valid)
        return 100 * right / len(self.evaluator.splits["valid"])


def measure(score: Callable[[Architecture], float], archs: list[Architecture]) -> tuple[float, list[float]]:
    """Seconds a subnet, and the accuracies."""
    began = time.perf_counter()
    found = [score(arch) for arch in archs]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / len(archs), found


def run(supernet: str, data: str | None, subnets: int, rounds: int) -> dict[str, Any]:
    """Seconds a subnet of both loops, their ratio, and how far their accuracies lie apart."""
    evaluator = evaluators.load(None, supernet, data)
    loops: dict[str, Callable[[Architecture], float]] = {
        "ours": lambda arch: evaluator.score(arch).accuracy,
        "plain": PlainLoop(evaluator, persistent=False),
        "plain, workers kept": PlainLoop(evaluator, persistent=True),
    }
    rng = random.Random(0)
    for loop in loops.values():  # caches, workers, lazily built kernels
        loop(evaluator.space.sample(rng))
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    apart = 0.0
    for _ in range(rounds):
        archs = [evaluator.space.sample(rng) for _ in range(max(1, subnets // rounds))]
        found = {}
        for name, loop in loops.items():
            each, found[name] = measure(loop, archs)
            seconds[name].append(each)
        apart = max(apart, *(abs(a - b) for a, b in zip(found["ours"], found["plain"], strict=True)))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "space": evaluator.space.name,
        "images": {name: len(split) for name, split in evaluator.splits.items() if name != "test"},
        "device": torch.cuda.get_device_name() if evaluator.device.type == "cuda" else f"{os.cpu_count()} CPU cores",
        "threads": torch.get_num_threads(),
        "seconds_per_subnet": {name: round(value, 6) for name, value in median.items()},
        "times_faster": {name: round(value / median["ours"], 2) for name, value in median.items() if name != "ours"},
        "accuracies_apart_at_most": round(apart, 3),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="subnets a second against a plain loop over a DataLoader")
    parser.add_argument("--supernet", required=True)
    parser.add_argument("--data")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    print(json.dumps(run(args.supernet, args.data, args.subnets, args.rounds), indent=1))


if __name__ == "__main__":
    main()
