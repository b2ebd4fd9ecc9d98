"""The paper's proof of concept: one architecture of each tenth of a table by accuracy, and who puts the ten in order.

Kendall's tau between an order and the true one, a trial a seed; every trial draws its ten anew. How a row orders them:

    collm            tuned models, which have no words: the log-probability that the Generator gives to each of the ten,
                     averaged over the strategies that the Navigator writes from the digest of `evidence` other
                     evaluated architectures (default 0: it knows nothing, since it never met names of operations)
    collm, preset paper   in words: the ten, numbered in random order, and the answer's numbers; an answer that is no
                     order is asked for again, at most three times, and then counts as tau 0
    ridge            the effects of a ridge regression on `evidence` architectures (default 20), the same ones
    flops, params    the more, the better
    random           a random order
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any

from collm_nas.api import Architecture, UserError
from eval import bench
from eval.metrics import bootstrap, paired
from eval.problems import Instance, ProblemSpec, load
from eval.rows import MODEL_OPTIONS, MODEL_ROW, Row
from eval.rows import parse_row as parse_search_row
from eval.stacked import stacked
from eval.summary import corrected, interval, label, text

DECILES, COSTS = 10, ("flops", "params")
ROWS: dict[str, tuple[str, ...]] = {
    MODEL_ROW: (*MODEL_OPTIONS, "evidence"), "ridge": ("evidence",), "flops": (), "params": (), "random": (),
}  # fmt: skip
COLUMNS = ("row", "seed", "seen", "tau", "readable", "tokens_prompt", "tokens_completion", "seconds_llm")
VERSION = 2
Record = dict[str, Any]


class Ranking(bench.Job):
    """A trial: what a worker is sent."""

    __slots__ = ()

    def key(self) -> str:
        """Another than that of a search on the same protocol, whose sizes mean nothing here."""
        return hashlib.sha256(f"ranking/{VERSION}/{bench.Job.key(self)}".encode()).hexdigest()[:20]


def parse_row(text: str, model_options: dict[str, Any] | None = None) -> Row:
    """A row of a ranking; UserError for an unknown one."""
    name, *pieces = text.strip().split(":")
    if name not in ROWS:
        raise UserError(f"--rows: {name!r} can't rank; legal for a ranking: {', '.join(ROWS)}")
    evidence = [piece for piece in pieces if piece.startswith("evidence=")]
    for piece in pieces:
        key = piece.partition("=")[0]
        if key not in ROWS[name]:
            raise UserError(
                f"--rows: {name!r} has no option {key!r} in a ranking; legal: {', '.join(ROWS[name]) or '-'}"
            )
    given: dict[str, Any] = {}
    for piece in evidence:
        count = piece.partition("=")[2]
        if not count.isascii() or not count.isdigit():
            raise UserError(f"--rows: evidence={count} in {text!r} must be a whole number of architectures")
        given["evidence"] = int(count)
    if name != MODEL_ROW:
        return Row(text.strip(), name, tuple(given.items()))
    searched = parse_search_row(":".join([name, *(p for p in pieces if p not in evidence)]), model_options)
    row = Row(text.strip(), name, tuple(sorted({**dict(searched.options), **given}.items())))
    if "variant" in dict(row.options):
        raise UserError(f"--rows: {text!r} names a variant of a search, which is none of a ranking; leave it out")
    return row


def check(protocol: bench.Protocol, rows: Sequence[Row]) -> None:
    """UserError where the problem has no deciles, a cost is unknown or a model folder is wrong."""
    from inference.folder import ModelFolder

    ten, instance = [group[0] for group in deciles(protocol.problem)], load(protocol.problem, 0)
    for row in rows:
        if row.model is not None:
            ModelFolder.open(row.model, tuned=row.tuned)
        elif row.name in COSTS:
            _costs(instance, ten, row.name)


# --- a trial ----------------------------------------------------------------------------------------------------------


def rank(job: bench.Job) -> Record:
    """One trial of a row."""
    instance = load(job.protocol.problem, job.seed)
    rng = random.Random(f"ranking/{job.seed}")
    ten = [rng.choice(group) for group in deciles(job.protocol.problem)]
    rng.shuffle(ten)
    record: Record = {"key": job.key(), "row": job.row.label, "seed": job.seed, "seen": None, "readable": True}
    record |= {"tokens_prompt": 0, "tokens_completion": 0, "seconds_llm": 0.0}
    worth, more = _worth(job, instance, ten)
    truth = [evaluation.fitness for evaluation in instance.evaluator.evaluate(ten)]
    return {**record, **more, "tau": 0.0 if worth is None else tau(worth, truth)}


def tau(worth: Sequence[float], truth: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where everything is level."""
    from scipy.stats import kendalltau

    if len(set(worth)) < 2 or len(set(truth)) < 2:
        return 0.0
    return float(kendalltau(worth, truth).statistic)


@lru_cache(maxsize=4)
def deciles(problem: ProblemSpec) -> tuple[tuple[Architecture, ...], ...]:
    """The architectures of a table in ten equal groups, from the worst to the best; UserError where there are too few
    or it is no table."""
    if problem.kind in ("landscapes", "validation", "supernet"):
        raise UserError(f"a ranking needs a table, which has its deciles, and --problem {problem.kind} is none")
    instance = load(problem, 0)
    archs = list(instance.space.all())
    if instance.caps.limits:
        archs = [arch for arch in archs if instance.caps.allow(instance.costs(arch))]
    if len(archs) < 2 * DECILES:
        raise UserError(f"a ranking draws from {DECILES} groups, and this table has but {len(archs)} architectures")
    values = {arch: e.fitness for arch, e in zip(archs, instance.evaluator.evaluate(archs), strict=True)}
    ordered = sorted(archs, key=lambda arch: (values[arch], arch.choices))
    cuts = [i * len(ordered) // DECILES for i in range(DECILES + 1)]
    return tuple(tuple(ordered[a:b]) for a, b in pairwise(cuts))


def _worth(job: bench.Job, instance: Instance, ten: list[Architecture]) -> tuple[list[float] | None, Record]:
    """What the row thinks of each, and more for the record; None where no order could be read."""
    row, rng = job.row, random.Random(f"ranking/{job.row.name}/{job.seed}")
    if row.name == "random":
        return [rng.random() for _ in ten], {}
    if row.name in COSTS:
        return _costs(instance, ten, row.name), {}
    others = _evidence(job, instance, ten)
    if row.name == "ridge":
        return _ridge(instance, ten, others), {}
    from eval import ranking_models

    return ranking_models.worth(job, instance, ten, others)


def _costs(instance: Instance, ten: list[Architecture], cost: str) -> list[float]:
    found = [instance.costs(arch) for arch in ten]
    if cost not in found[0]:
        raise UserError(f"--rows {cost}: neither space nor table has that cost; leave the row out")
    return [costs[cost] for costs in found]


def _evidence(job: bench.Job, instance: Instance, ten: list[Architecture]) -> list[Architecture]:
    """Random architectures besides the ten, the same for every row of a trial."""
    n = int(dict(job.row.options).get("evidence", 20 if job.row.name == "ridge" else 0))
    drawn = instance.draws(n + len(ten), random.Random(f"ranking/evidence/{job.seed}"))
    return [arch for arch in drawn if arch not in ten][:n]


def _ridge(instance: Instance, ten: list[Architecture], others: list[Architecture]) -> list[float]:
    from collm_nas import evidence

    values = [evaluation.fitness for evaluation in instance.evaluator.evaluate(others)]
    fit = evidence.ridge(instance.space, others, values)
    return [evidence.total(instance.space, fit.mean_D, fit.offsets, arch) for arch in ten]


# --- figures ----------------------------------------------------------------------------------------------------------


def summarise(records: Sequence[Record], reference: str) -> list[dict[str, Any]]:
    """One dict a row: the mean tau, how many answers were orders, and the paired difference to the reference."""
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    first = {record["seed"]: record["tau"] for record in by_row[reference]}
    lines = []
    for row, own in by_row.items():
        found, versus = bootstrap([r["tau"] for r in own]), paired({r["seed"]: r["tau"] for r in own}, first)
        line: dict[str, Any] = {"row": row, "searches": len(own), "seen": own[0]["seen"]}
        line["tau"] = interval(found)
        line |= {name: fmean(r[name] for r in own) for name in ("readable", "tokens_completion", "seconds_llm")}
        line["versus"] = {"row": reference, "tau": versus.difference.text(), "p": versus.p, "p_holm": None}
        lines.append(line)
    return corrected(lines, reference)


def table(lines: Sequence[dict[str, Any]], protocol: str, title: str, width: int) -> Any:
    """What `stacked` makes of all figures; the protocol stands under it."""
    first = lines[0]["versus"]["row"]
    held = ["" if one["row"] == first else f"{one['versus']['tau']}, {one['versus']['p_holm']:.3f}" for one in lines]
    columns = [
        ("tau", [text(one["tau"]) for one in lines]),
        ("orders read", [f"{100 * one['readable']:.0f} %" for one in lines]),
        ("tokens out", [f"{one['tokens_completion']:.0f}" for one in lines]),
        ("LLM s", [f"{one['seconds_llm']:.2f}" for one in lines]),
        (f"tau minus {first}, p (Holm)", held),
    ]
    said = f"{title}Kendall's tau, means over trials [95 % bootstrap]"
    return stacked([label(one) for one in lines], columns, said, protocol, width)
