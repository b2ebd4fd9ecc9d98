"""Trains every architecture of `digits-cells` with two seeds and writes the table that ships with the package.

`python -m data_gen.digits_table --out collm_nas/data/digits_cells.csv.gz`. Results are appended one by one to a partial
file beside it; after a kill the same command goes on where it stopped. Design and figures: docs/DIGITS_CELLS.md.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import itertools
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from collm_nas.spaces import digits_cells

SEEDS = (0, 1)
SPLIT_SEED = 0
ORDER_SEED = 7
TRAIN, VALID = 200, 798  # the other 799 images are the test set
EPOCHS, BATCH = 12, 50
PEAK_RATE, WARM_UP = 0.04, 0.2
RECIPE = {
    "version": 1, "seeds": SEEDS, "split_seed": SPLIT_SEED, "order_seed": ORDER_SEED, "train": TRAIN, "valid": VALID,
    "epochs": EPOCHS, "batch": BATCH, "rate": PEAK_RATE, "warm_up": WARM_UP, "width": digits_cells.WIDTH,
    "variables": digits_cells.VARIABLES,
}  # fmt: skip
Images = tuple[torch.Tensor, torch.Tensor]
"""Images (n, 1, 8, 8), standardised by the training images' mean and deviation, and labels (n,)."""


@functools.cache
def split() -> tuple[Images, Images, Images]:
    """Train, valid and test images: the 1,797 digits permuted by NumPy's `RandomState(0)`, then cut."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(digits.target))
    x_BCHW = torch.tensor(digits.images[order], dtype=torch.float32)[:, None]
    x_BCHW = (x_BCHW - x_BCHW[:TRAIN].mean()) / x_BCHW[:TRAIN].std()
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    labels = torch.tensor(digits.target[order])
    cuts = [0, TRAIN, TRAIN + VALID, len(labels)]
    train, valid, test = ((x_BCHW[a:b], labels[a:b]) for a, b in itertools.pairwise(cuts))
    return train, valid, test


def rate(step: int, steps: int) -> float:
    """Learning rate: linear warm-up to the peak, then linear to zero."""
    warm = WARM_UP * steps
    return PEAK_RATE * min(1.0, (step + 1) / warm) * (1 - max(0.0, (step - warm) / (steps - warm)))


def train(choices: Sequence[int], seed: int) -> tuple[float, float]:
    """Valid and test accuracy in percent; `seed` draws the weights, the order of the images is always the same."""
    (x, y), valid, test = split()
    network = digits_cells.build(choices, seed)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    optimizer = torch.optim.Adam(network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), fused=True)
    order = torch.Generator().manual_seed(ORDER_SEED)
    batches = [b for _ in range(EPOCHS) for b in torch.randperm(TRAIN, generator=order).split(BATCH)]
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate(step, len(batches))
        optimizer.zero_grad()
        F.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    network.eval()
    return accuracy(network, valid), accuracy(network, test)


@torch.inference_mode()
def accuracy(network: torch.nn.Module, images: Images) -> float:
    """Percent of the images classified correctly."""
    x, y = images
    return 100 * (network(x).argmax(1) == y).double().mean().item()


def measure(choices: tuple[int, ...]) -> dict[str, Any]:
    """One line of the partial file: accuracies by seed, and the wall time of both trainings in seconds."""
    torch.set_num_threads(1)
    split()
    start = time.perf_counter()
    results = [train(choices, seed) for seed in SEEDS]
    seconds = time.perf_counter() - start
    return {
        "choices": choices,
        "valid": [r[0] for r in results],
        "test": [r[1] for r in results],
        "seconds": round(seconds, 4),
    }


def recover(partial: Path) -> dict[tuple[int, ...], dict[str, Any]]:
    """Results so far by choices; cuts a line that a kill left unfinished, starts the file where there is none."""
    header = json.dumps({"recipe": RECIPE})
    content = partial.read_bytes() if partial.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(header + "\n")
        return {}
    if len(whole) < len(content):
        os.truncate(partial, len(whole))
    first, *lines = whole.decode().splitlines()
    if first != header:
        raise SystemExit(f"{partial} holds results of another recipe; name another --partial or delete it")
    results = map(json.loads, lines)
    return {tuple(r["choices"]): r for r in results}


def measure_all(todo: list[tuple[int, ...]], processes: int) -> Iterator[dict[str, Any]]:
    """Measures in this process or in several, as they finish."""
    if processes == 1:
        yield from map(measure, todo)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(measure, todo, chunksize=2)


def write_table(path: Path, results: dict[tuple[int, ...], dict[str, Any]]) -> None:
    """The table in the space's order; equal results give equal bytes."""
    space = digits_cells.create()
    text = io.StringIO()
    text.write("arch,valid,test,params,flops,seconds\n")
    for arch in space.all():
        r, cost = results[arch.choices], space.cost(arch)
        valid, test = statistics.fmean(r["valid"]), statistics.fmean(r["test"])
        row = f"{space.format(arch)},{valid:.4f},{test:.4f},{cost['params']},{cost['flops']},{r['seconds']:.4f}\n"
        text.write(row)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
        packed.write(text.getvalue().encode())
    temporary.replace(path)


def summary(results: dict[tuple[int, ...], dict[str, Any]]) -> str:
    """Spread, noise of the seeds, and how well sums of single choices explain the accuracy."""
    space = digits_cells.create()
    keys = sorted(results)
    valid = np.array([results[k]["valid"] for k in keys])
    test = np.array([results[k]["test"] for k in keys]).mean(1)
    mean, apart = valid.mean(1), valid[:, 0] - valid[:, 1]
    best = int(mean.argmax())
    top = mean >= np.quantile(mean, 0.9)
    noise, noise_top = (float(np.sqrt((d**2).mean())) / 2 for d in (apart, apart[top]))
    agree, transfer = np.corrcoef(valid.T)[0, 1], np.corrcoef(mean, test)[0, 1]
    sums = {order: r_squared(keys, mean, order) for order in (1, 2)}
    seconds = sum(results[k]["seconds"] for k in keys)
    lines = [
        f"architectures            {len(keys)} of {space.size}",
        f"valid: best              {mean[best]:.2f}  (test {test[best]:.2f})  {space.format(space.make(keys[best]))}",
        f"valid: quantiles         99 % {np.quantile(mean, 0.99):.2f}, 90 % {np.quantile(mean, 0.9):.2f}, "
        f"median {np.median(mean):.2f}, 10 % {np.quantile(mean, 0.1):.2f}, worst {mean.min():.2f}",
        f"valid: deviation         {mean.std():.2f} (best tenth {mean[top].std():.2f})",
        f"between the seeds        mean |difference| {abs(apart).mean():.2f}, median {np.median(abs(apart)):.2f}, "
        f"best tenth {abs(apart[top]).mean():.2f}",
        f"noise of the mean of two {noise:.2f} (best tenth {noise_top:.2f})",
        f"correlation              seeds {agree:.3f}, valid with test {transfer:.3f}",
        f"R2 of linear fits        single choices {sums[1]:.3f}, pairs {sums[2]:.3f}",
        f"seconds                  {seconds:.0f} in all, {seconds / len(keys):.3f} each",
    ]
    return "\n".join(lines)


def r_squared(keys: list[tuple[int, ...]], values: np.ndarray, order: int) -> float:
    """Share of the variance (adjusted for the fit's freedom) that one-hot choices, or pairs of them, explain."""
    sizes = [len(choices) for _, choices in digits_cells.VARIABLES]
    one_hot = [np.eye(n)[[k[i] for k in keys]][:, 1:] for i, n in enumerate(sizes)]
    columns = [np.ones((len(keys), 1)), *one_hot]
    if order == 2:
        for i, a in enumerate(one_hot):
            columns += [(a[:, :, None] * b[:, None, :]).reshape(len(keys), -1) for b in one_hot[i + 1 :]]
    design = np.hstack(columns)
    if len(keys) <= design.shape[1]:
        return float("nan")
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    freedom = (len(keys) - 1) / (len(keys) - design.shape[1])
    return float(1 - ((values - fitted) ** 2).sum() / ((values - values.mean()) ** 2).sum() * freedom)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m data_gen.digits_table", description=about)
    parser.add_argument("--out", type=Path, required=True, help="table to write once all are trained (.csv.gz)")
    parser.add_argument("--partial", type=Path, help="file of the results so far (default: OUT.partial.jsonl)")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, one core each")
    parser.add_argument("--limit", type=int, help="train at most so many now")
    options = parser.parse_args(arguments)
    partial = options.partial or options.out.with_name(options.out.name + ".partial.jsonl")
    results = recover(partial)
    queue = [arch.choices for arch in digits_cells.create().all()]
    random.Random(0).shuffle(queue)  # an unfinished run is a fair sample
    todo = [choices for choices in queue if choices not in results][: options.limit]
    start = time.perf_counter()
    with partial.open("a") as file:
        for n, result in enumerate(measure_all(todo, options.processes), 1):
            file.write(json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())
            results[tuple(result["choices"])] = result
            if n % 100 == 0 or n == len(todo):
                each = (time.perf_counter() - start) / n
                left = each * (len(todo) - n) / 60
                print(f"{n}/{len(todo)}  {each:.3f} s each, {left:.1f} min left", file=sys.stderr)
    if results:
        print(summary(results))
    if len(results) == digits_cells.create().size:
        write_table(options.out, results)


if __name__ == "__main__":
    main()
