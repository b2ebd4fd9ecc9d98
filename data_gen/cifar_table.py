"""Makes the table `cifar-stages`, whose networks a supernet of ours scores on CIFAR-10, and checks that supernet.

`python -m data_gen.cifar_table score --supernet DIR --data CIFAR --out scored.jsonl`, then `... pack --partial
scored.jsonl --out collm_nas/data/cifar_stages.csv.gz`. `... alone --supernet DIR --data CIFAR --out alone.jsonl` trains
random networks of the whole space `cifar-mbconv` from scratch and scores them with inherited weights, too; `... agree
--partial alone.jsonl` says how far the two agree. A result is a line of its partial file; after a kill the same command
goes on. Figures: docs/CIFAR_MBCONV.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from collm_nas import spaces, supernets
from collm_nas.api import Architecture
from collm_nas.evaluators import supernet as evaluators
from collm_nas.spaces import cifar_stages
from collm_nas.supernets import batches, retrain
from collm_nas.supernets.base import extract

SEED = 0
ALONE = 64
"""Random networks of the whole space that are trained alone."""
COLUMNS = ("arch", "valid", "test", "flops", "params")
ALONE_RECIPE = retrain.Recipe(epochs=6, batch=256, rate=0.2)


def sampled(space: Any, n: int) -> list[Architecture]:
    """`n` distinct architectures, uniform over the choices of every variable, so that shallow networks are not rare."""
    rng = random.Random(SEED)
    found: dict[Architecture, None] = {}
    while len(found) < n:
        found[space.make([rng.randrange(len(v.choices)) for v in space.variables])] = None
    return list(found)


def inherited(evaluator: evaluators.SupernetEvaluator, arch: Architecture) -> dict[str, float]:
    """Accuracies of the subnet with inherited weights."""
    return {"valid": evaluator.score(arch).accuracy, "test": evaluator.score(arch, "test").accuracy}


def train_alone(evaluator: evaluators.SupernetEvaluator, arch: Architecture) -> dict[str, float]:
    """`inherited`, and the accuracies of the same network trained from scratch on the supernet's images."""
    space: Any = evaluator.space
    network = extract(supernets.fresh(space, SEED), arch)
    prepared = batches.prepare(evaluator.data.train, evaluator.inputs(arch), ALONE_RECIPE.batch, SEED, evaluator.device)
    retrain.train(network, prepared, ALONE_RECIPE)
    alone = {f"alone_{split}": evaluator.score_network(network, arch, split).accuracy for split in ("valid", "test")}
    return {**alone, **inherited(evaluator, arch)}


def fill(todo: dict[str, Callable[[], dict[str, float]]], path: Path, part: tuple[int, int]) -> None:
    """Measure what the partial file lacks, of every n-th from the k-th, by its text, and append it line by line."""
    done = {line["arch"] for line in lines(path)}
    (k, n), began = part, time.monotonic()
    for i, (text, measure) in enumerate(todo.items()):
        if i % n == k and text not in done:
            line = {"arch": text, **measure()}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{i + 1} of {len(todo)}, {time.monotonic() - began:.0f} s", flush=True)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a partial file; one that a kill cut is dropped."""
    if not path.exists():
        return
    whole = path.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    yield from map(json.loads, whole.decode().splitlines())


# --- the table --------------------------------------------------------------------------------------------------------


def pack(scored: list[dict[str, Any]], out: Path) -> None:
    """The shipped CSV: accuracies with inherited weights, and costs, in the space's order."""
    space, found = cifar_stages.create(), {line["arch"]: line for line in scored}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for arch in space.all():
        row = {**found[space.format(arch)], **space.cost(arch)}
        writer.writerow([_cell(row[column]) for column in COLUMNS])
    with out.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def agreement(alone: list[dict[str, Any]]) -> Iterator[str]:
    """How far networks trained alone lie apart, whether that is more than noise, or than size, and whether inherited
    weights rank them alike."""
    space = spaces.load("cifar-mbconv")
    columns = {name: [one[name] for one in alone] for name in ("alone_valid", "alone_test", "valid", "test")}
    columns["multiply-adds"] = [space.cost(space.parse(one["arch"]))["flops"] for one in alone]
    for name in ("alone_valid", "valid"):
        values = columns[name]
        ends = f"{min(values):.1f} to {max(values):.1f}, median {statistics.median(values):.1f}"
        yield f"{name}: {ends}, deviation {statistics.stdev(values):.2f}, {len(values)} networks"
    for pair in itertools.combinations(columns, 2):
        yield f"{' with '.join(pair)}: {_tau(list(zip(*(columns[name] for name in pair), strict=True)))}"


def _tau(found: list[tuple[float, float]]) -> str:
    """Kendall's tau of pairs, with its bootstrap interval of 95 %."""
    import numpy as np
    from scipy.stats import kendalltau

    pairs = np.array(found)
    rng = np.random.default_rng(0)
    draws = [kendalltau(*pairs[rng.integers(len(pairs), size=len(pairs))].T).statistic for _ in range(2000)]
    low, high = np.nanquantile(draws, [0.025, 0.975])  # a draw of one network many times has no tau
    return f"tau {kendalltau(*pairs.T).statistic:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="tabulate subnets of the cifar-mbconv supernet")
    parser.add_argument("what", choices=["score", "alone", "pack", "agree"])
    parser.add_argument("--supernet", help="of score and alone")
    parser.add_argument("--data", help="CIFAR-10, where the supernet does not name it")
    parser.add_argument("--partial", type=Path, nargs="+", default=[], help="of pack and agree: partial files")
    parser.add_argument("--out", type=Path, help="partial file, one line a result; of pack: the table")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th from the K-th, each with a file of its own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {line["arch"]: line for path in args.partial for line in lines(path)}
    if args.what == "agree":
        print("\n".join(agreement(list(found.values()))))
    elif args.what == "pack":
        pack(list(found.values()), args.out)
    else:
        evaluator = evaluators.load(None, args.supernet, args.data)
        k, n = map(int, args.part.split("/"))
        fill(_regular(evaluator) if args.what == "score" else _random(evaluator), args.out, (k, n))


def _regular(evaluator: evaluators.SupernetEvaluator) -> dict[str, Callable[[], dict[str, float]]]:
    space = cifar_stages.create()
    return {space.format(arch): partial(inherited, evaluator, space.in_supernet(arch)) for arch in space.all()}


def _random(evaluator: evaluators.SupernetEvaluator) -> dict[str, Callable[[], dict[str, float]]]:
    space: Any = evaluator.space
    return {space.format(arch): partial(train_alone, evaluator, arch) for arch in sampled(space, ALONE)}


if __name__ == "__main__":
    main()
