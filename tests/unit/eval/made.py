"""Made-up journals on real spaces, as a search by two language models or by a baseline would leave them."""

from __future__ import annotations

import random
from typing import Any

from collm_nas import result
from collm_nas.prompts import GENERATOR_TOKEN
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Direction, Strategy

Event = dict[str, Any]


def strategy(space: CategoricalSpace, rng: random.Random, settled: int) -> Strategy:
    """One that leans to the last choices."""
    directions = tuple(
        Direction(max(rng.randrange(len(v.choices)), rng.randrange(len(v.choices))), 0, settled)
        for v in space.variables
    )
    return Strategy(tuple(space.sample(rng) for _ in range(3)), directions, 2, 3)


def journal(
    space: CategoricalSpace, budget: int, *, models: bool = True, caps: dict[str, float] | None = None, seed: int = 0
) -> list[Event]:
    """Batches of five; with `models` two strategies each. Fitness rises with the choices' positions."""
    rng = random.Random(seed)
    options = {"optimizer": "collm" if models else "random", "caps": caps or {}, "init": 5, "batch": 5}
    protocol = {"source": "function", "function": "made:up", "sha256": None, "fitness": "value", "report": []}
    header: Event = {"event": "header", "seed": seed, "space": space.spec(), "protocol": protocol, "options": options}
    events: list[Event] = [header | {"budget": budget, "versions": {"collm-nas": "0"}, "seen": "n/a", "time": 1.0}]
    for query in range(1, budget + 1):
        if models and query > 5 and query % 5 == 1:
            events += _round(space, rng, min(3, query * 4 // budget))
        arch = max((space.sample(rng) for _ in range(3)), key=lambda a: sum(a.choices))
        costs = space.cost(arch)
        proposer = ("model" if models else "random") if query > 5 else "init"
        feasible = all(costs[name] <= limit for name, limit in (caps or {}).items())
        named: Event = {"arch": space.format(arch), "proposer": proposer, "time": 1.0 + 0.7 * query}
        fitness = 60 + 20 * sum(arch.choices) / sum(len(v.choices) - 1 for v in space.variables) + rng.gauss(0, 1)
        events.append({"event": "candidate", "verdict": "evaluated", "unique": True, "text": "", **named})
        events.append(
            {"event": "evaluation", "query": query, "fitness": fitness, "costs": costs, "feasible": feasible}
            | {"seconds": 0.5, "source": "made:up", **named}
        )
    return [*events, {"event": "end", "reason": "budget", "report": {}, "time": 2.0 + 0.7 * budget}]


def _round(space: CategoricalSpace, rng: random.Random, settled: int) -> list[Event]:
    texts = [strategy(space, rng, settled).compact(space) for _ in range(2)]
    said = {"prompt_tokens": [9, 9], "tokens": [5, 5], "seconds": [0.1, 0.1], "finished": [True, True], "time": 1.0}
    events: list[Event] = [{"event": "completion", "role": "navigator", "texts": texts, **said}]
    for text, n in zip(texts, (3, 2), strict=True):
        events.append({"event": "prompt", "role": "generator", "prompt": text + GENERATOR_TOKEN, "time": 1.0})
        events.append({"event": "completion", "role": "generator", "texts": [""] * n, **said})
    return events


def run(space: CategoricalSpace, budget: int, **options: Any) -> tuple[dict[str, Any], list[Event]]:
    """Result and events."""
    events = journal(space, budget, **options)
    return result.derive(events), events
