"""`CollmSampler` against Optuna's own samplers, in Optuna's loop: one trial after another, on the problems of `bench`.

`python -m eval.benchmarks.optuna_samplers [--problem landscapes] [--problem digits-cells] [--seeds 2] [--trials 60]
[--samplers collm,tpe,gp,random]` prints a JSON object: by problem and sampler the mean normalised regret of what would
be handed over at the end (0 is the best, 1 a typical random point), with its 95 % bootstrap interval, the queries to
the best (median), distinct configurations, and seconds of a proposal.

All studies of a seed begin with the same ten enqueued random configurations. Every variable is one categorical
parameter in every trial, also where it is inactive (the samplers that know relations need that), and what is over a
landscape's cap is evaluated with a constraint. `collm:NAME` is `CollmSampler` with an optimiser of ours.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from collm_nas import CollmSampler
from eval.metrics import bootstrap, normalised_regret, queries_text, queries_to_reach
from eval.problems import PACKAGED, Instance, ProblemSpec, load

STARTS = 10
OWN: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Optuna's samplers by name: as they come, TPE with what it has for related parameters."""


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of this name; UserError or KeyError for one that there is not."""
    own, _, optimizer = name.partition(":")
    return CollmSampler(seed=seed, optimizer=optimizer or "collm") if own == "collm" else OWN[name](seed)


def study(name: str, instance: Instance, seed: int, trials: int) -> dict[str, Any]:
    """One study: what came of it, and what its proposals cost."""
    made = optuna.create_study(direction="maximize", sampler=sampler(name, seed))
    variables = instance.space.variables
    for arch in instance.starts(STARTS, seed):
        made.enqueue_trial({v.name: c for v, c in zip(variables, arch.choices, strict=True)})
    limits = instance.caps.limits
    curve: list[float | None] = []
    best, worth, seconds, distinct = -float("inf"), None, 0.0, set()
    for _ in range(trials):
        began = time.perf_counter()
        trial = made.ask()
        choices = [trial.suggest_categorical(v.name, range(len(v.choices))) for v in variables]
        seconds += time.perf_counter() - began
        arch = instance.space.make(choices)
        distinct.add(arch)
        fitness = instance.evaluator.evaluate([arch])[0].fitness
        costs = instance.costs(arch) if limits else {}
        for cost, limit in limits.items():
            trial.set_constraint(cost, costs[cost] - limit)
        made.tell(trial, fitness)
        if instance.caps.allow(costs) and fitness > best:
            best, worth = fitness, instance.value(arch, fitness)
        curve.append(worth)
    assert worth is not None, "the enqueued ones are within the caps"
    return {
        "regret": normalised_regret(instance.best, instance.typical, worth),
        "queries": queries_to_reach(curve, instance.best),
        "distinct": len(distinct),
        "seconds": seconds / (trials - STARTS),
    }


def spec(problem: str) -> ProblemSpec:
    """The problem of this name; validation accuracy is the fitness of a packaged table."""
    return (
        ProblemSpec(kind=problem, fitness="valid", report=("test",))
        if problem in PACKAGED
        else ProblemSpec(kind=problem)
    )


def run(problems: Sequence[str], samplers: Sequence[str], seeds: int, trials: int) -> dict[str, Any]:
    """The figures of every sampler on every problem."""
    found: dict[str, Any] = {"seeds": seeds, "trials": trials, "starts": STARTS, "optuna": optuna.__version__}
    for problem in problems:
        instances = [load(spec(problem), seed) for seed in range(seeds)]
        found[problem] = {}
        for name in samplers:
            rows = [study(name, instance, seed, trials) for seed, instance in enumerate(instances)]
            regret = bootstrap([row["regret"] for row in rows])
            found[problem][name] = {
                "normalised_regret": round(regret.mean, 4),
                "interval": [round(regret.low, 4), round(regret.high, 4)],
                "queries_to_best": queries_text([row["queries"] for row in rows], trials),
                "distinct": sum(row["distinct"] for row in rows) / seeds,
                "seconds_per_proposal": round(sum(row["seconds"] for row in rows) / seeds, 4),
            }
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="CollmSampler against Optuna's samplers")
    parser.add_argument(
        "--problem", action="append", choices=["landscapes", "validation", "digits-cells", "cifar-stages"]
    )
    parser.add_argument("--samplers", default="collm,collm:gp,tpe,gp,random")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=60, help=f"of a study, more than the {STARTS} enqueued ones")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problems = args.problem or ["landscapes", "digits-cells"]
    print(json.dumps(run(problems, args.samplers.split(","), args.seeds, args.trials), indent=1))


if __name__ == "__main__":
    main()
