"""Makes the table `cifar-mbconv`: subnets of a supernet of ours scored on CIFAR-10, some of them also trained alone.

`python -m data_gen.cifar_table score --supernet DIR --data CIFAR --out scored.jsonl`, the same with `alone`, then
`... pack --supernet DIR --partial scored.jsonl alone.jsonl --out collm_nas/data/cifar_mbconv.csv.gz`.
A result is a line of its partial file; after a kill the same command goes on. Figures: docs/CIFAR_MBCONV.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from collm_nas import spaces, supernets
from collm_nas.api import Architecture
from collm_nas.evaluators import supernet as evaluators
from collm_nas.supernets import batches, retrain
from collm_nas.supernets.base import extract

SEED = 0
SCORED, ALONE = 2048, 64
"""Random subnets that the supernet scores, and how many of the first of them are trained alone."""
COLUMNS = ("arch", "valid", "test", "flops", "params", "alone_valid", "alone_test")
ALONE_RECIPE = retrain.Recipe(epochs=8, batch=32)


def sampled(space: Any, n: int) -> list[Architecture]:
    """`n` distinct architectures, uniform over the choices of every variable, so that shallow networks are not rare."""
    rng = random.Random(SEED)
    found: dict[Architecture, None] = {}
    while len(found) < n:
        found[space.make([rng.randrange(len(v.choices)) for v in space.variables])] = None
    return list(found)


def score(evaluator: evaluators.SupernetEvaluator, arch: Architecture) -> dict[str, float]:
    """Accuracies of the subnet with inherited weights."""
    return {"valid": evaluator.score(arch).accuracy, "test": evaluator.score(arch, "test").accuracy}


def train_alone(evaluator: evaluators.SupernetEvaluator, arch: Architecture) -> dict[str, float]:
    """Accuracies of the same network trained from scratch, on the same images as the supernet."""
    space: Any = evaluator.space
    network = extract(supernets.fresh(space, SEED), arch)
    prepared = batches.prepare(evaluator.data.train, evaluator.inputs(arch), ALONE_RECIPE.batch, SEED, evaluator.device)
    retrain.train(network, prepared, ALONE_RECIPE)
    return {f"alone_{split}": evaluator.score_network(network, arch, split).accuracy for split in ("valid", "test")}


def fill(
    evaluator: evaluators.SupernetEvaluator,
    archs: list[Architecture],
    measure: Callable[[evaluators.SupernetEvaluator, Architecture], dict[str, float]],
    partial: Path,
    part: tuple[int, int],
) -> None:
    """Measure what the partial file lacks, of every n-th architecture from the k-th, and append it line by line."""
    done = {line["arch"] for line in lines(partial)}
    (k, n), began = part, time.monotonic()
    for i, arch in enumerate(archs):
        text = evaluator.space.format(arch)
        if i % n == k and text not in done:
            line = {"arch": text, **measure(evaluator, arch)}
            with partial.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{i + 1} of {len(archs)}, {time.monotonic() - began:.0f} s", flush=True)


def lines(partial: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a partial file; one that a kill cut is dropped."""
    if not partial.exists():
        return
    whole = partial.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    os.truncate(partial, len(whole))
    yield from map(json.loads, whole.decode().splitlines())


# --- the table --------------------------------------------------------------------------------------------------------


def pack(space: Any, scored: list[dict[str, Any]], alone: list[dict[str, Any]], out: Path) -> None:
    """The shipped CSV: accuracies with inherited weights, costs, and those trained alone where there are some."""
    found = {line["arch"]: line for line in alone}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in scored:
        costs, own = space.cost(space.parse(line["arch"])), found.get(line["arch"], {})
        row = {**line, **costs, **own}
        writer.writerow([_cell(row.get(column, "")) for column in COLUMNS])
    with out.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def agreement(scored: list[dict[str, Any]], alone: list[dict[str, Any]], split: str) -> str:
    """How inherited and stand-alone accuracy agree on the networks that have both."""
    inherited = {line["arch"]: line[split] for line in scored}
    return f"{split}: {_tau([(inherited[one['arch']], one[f'alone_{split}']) for one in alone])}"


def spread(space: Any, alone: list[dict[str, Any]]) -> str:
    """How far stand-alone accuracies lie apart, and whether they are more than noise, or than size."""
    valid, test = ([one[f"alone_{split}"] for one in alone] for split in ("valid", "test"))
    flops = [space.cost(space.parse(one["arch"]))["flops"] for one in alone]
    agree, grow = (_tau(list(zip(valid, other, strict=True))) for other in (test, flops))
    ends = f"{min(valid):.1f} to {max(valid):.1f}, median {statistics.median(valid):.1f}"
    deviation = statistics.stdev(valid)
    return f"alone: {ends}, deviation {deviation:.2f}; valid with test {agree}; valid with multiply-adds {grow}"


def _tau(found: list[tuple[float, float]]) -> str:
    """Kendall's tau of pairs, with its bootstrap interval."""
    import numpy as np
    from scipy.stats import kendalltau

    pairs = np.array(found)
    rng = np.random.default_rng(0)
    draws = [kendalltau(*pairs[rng.integers(len(pairs), size=len(pairs))].T).statistic for _ in range(2000)]
    low, high = np.nanquantile(draws, [0.025, 0.975])  # a draw of one network many times has no tau
    return f"tau {kendalltau(*pairs.T).statistic:.3f} [{low:.3f}, {high:.3f}] on {len(pairs)} networks"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="tabulate subnets of the cifar-mbconv supernet")
    parser.add_argument("what", choices=["score", "alone", "pack"])
    parser.add_argument("--supernet", required=True)
    parser.add_argument("--data")
    parser.add_argument("--partial", type=Path, nargs="+", default=[], help="of pack: the partial files of both kinds")
    parser.add_argument("--out", type=Path, required=True, help="partial file, one line a result; of pack: the table")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th from the K-th, each with a file of its own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "pack":
        _pack(args)
        return
    evaluator = evaluators.load(None, args.supernet, args.data)
    k, n = map(int, args.part.split("/"))
    measure, count = (score, SCORED) if args.what == "score" else (train_alone, ALONE)
    fill(evaluator, sampled(evaluator.space, count), measure, args.out, (k, n))


def _pack(args: argparse.Namespace) -> None:
    space = spaces.load("cifar-mbconv")
    found = {line["arch"]: line for path in args.partial for line in lines(path) if "valid" in line}
    alone = [line for path in args.partial for line in lines(path) if "alone_valid" in line]
    order = [space.format(arch) for arch in sampled(space, SCORED)]
    scored = [found[arch] for arch in order if arch in found]
    pack(space, scored, alone, args.out)
    print(f"{args.out}: {len(scored)} subnets, {len(alone)} of them trained alone")
    print(spread(space, alone))
    for split in ("valid", "test"):
        print(agreement(scored, alone, split))


if __name__ == "__main__":
    main()
