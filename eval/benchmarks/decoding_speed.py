"""What constraints cost: seconds a step against free text, grammar compilation, long histories, a bare loop.

`python -m eval.benchmarks.decoding_speed [--model embedded|smollm2|DIR] [--rows 5] [--rounds 9]` prints a JSON object.
What is compared alternates within a round, and ratios are medians over rounds with their spread, so that a noisy
machine is unfair to neither. On a CPU seconds are the process's own; use one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch

from collm_nas import spaces
from collm_nas.api import Constraint, Encoding, Request
from collm_nas.constraints.remaining import within
from collm_nas.spaces.base import CategoricalSpace
from inference import backends, engines
from inference.engines.transformers import TransformersEngine
from inference.folder import EMBEDDED

VISITED = (100, 1000, 10_000)
"""Lengths of history that `new` is timed with."""

STEPS = 64
"""Tokens of a row against the bare loop."""

LARGE = "ofa-mbv3"
"""The space whose grammar is compiled, and whose history grows."""


def clock() -> float:
    """Seconds: of this process on a CPU, of the wall where a GPU works beside it."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Subject:
    """One model under every backend, and how it is asked."""

    def __init__(self, model: str) -> None:
        self.tuned = model == "embedded"
        folder = EMBEDDED if self.tuned else Path(model)
        self.encoding: Encoding = "compact" if self.tuned else "native"
        self.prompt = "<a>a1b1c1d1e1f1g1<gen>" if self.tuned else "Write one network."
        self.engines: dict[str, TransformersEngine] = {}
        for name in backends.names():
            if name in ("xgrammar", "llguidance") and find_spec(name) is None:
                continue
            if name == "table" and not self.tuned:  # for small vocabularies
                continue
            loaded = engines.load("transformers", folder, tuned=self.tuned, backend=name)
            assert isinstance(loaded, TransformersEngine)
            self.engines[name] = loaded

    @property
    def usual(self) -> TransformersEngine:
        """The engine with the backend of `--grammar-backend auto`."""
        any_engine = next(iter(self.engines.values()))
        return self.engines[backends.choose(backends.AUTO, any_engine.vocabulary.size)]

    def request(self, space: CategoricalSpace, mode: str, rows: int, seed: int, limit: int = 400) -> Request:
        """`rows` answers in this decoding mode."""
        constraint = None if mode == "free" else Constraint("regex", space.regex(self.encoding))
        mask = within(space, self.encoding, {}, space.cost) if mode == "new" else None
        return Request("generator", self.prompt, rows, seed, 1.0, limit, constraint, mask)


def step(engine: TransformersEngine, request: Request) -> tuple[float, int]:
    """Seconds a decoding step, and how many there were."""
    began = clock()
    answers = engine.generate(request)
    seconds = clock() - began
    steps = max(answer.tokens + answer.finished for answer in answers)
    return seconds / steps, steps


def spread(values: list[float]) -> dict[str, Any]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}


def modes(subject: Subject, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds a step of `legal` and `new`, as multiples of free text of as many steps."""
    space = spaces.load("digits-cells")
    ratios: dict[str, dict[str, list[float]]] = {name: {"legal": [], "new": []} for name in subject.engines}
    free: list[float] = []
    for seed in range(-1, rounds):  # the first round warms up
        for name, engine in subject.engines.items():
            timed = {mode: step(engine, subject.request(space, mode, rows, seed + 1)) for mode in ("legal", "new")}
            for mode, (seconds, steps) in timed.items():
                plain, _ = step(engine, subject.request(space, "free", rows, seed + 1, steps))
                if seed >= 0:
                    ratios[name][mode].append(seconds / plain)
                    free.append(plain)
    return {
        "rows": rows,
        "milliseconds_a_step_free": spread([1000 * seconds for seconds in free]),
        "times_free": {name: {mode: spread(r) for mode, r in each.items()} for name, each in ratios.items()},
    }


def history(subject: Subject, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds a step of `new`, as multiples of the shortest history's."""
    space = spaces.load(LARGE)
    engine = subject.usual
    asked = {}
    for visited in VISITED:
        request, rng = subject.request(space, "new", rows, 0), Random(visited)
        assert request.mask is not None
        for _ in range(visited):
            request.mask.exclude(space.sample(rng))  # type: ignore[attr-defined]
        asked[visited] = request
    seconds: dict[int, list[float]] = {visited: [] for visited in VISITED}
    for i in range(-1, rounds):
        timed = {visited: step(engine, request)[0] for visited, request in asked.items()}
        for visited, value in timed.items():
            if i >= 0:
                seconds[visited].append(value / timed[VISITED[0]])
    return {"space": LARGE, "times_the_shortest": {str(k): spread(v) for k, v in seconds.items()}}


def compilation(subject: Subject) -> dict[str, Any]:
    """Seconds until the first mask of the large space's grammar is there, by backend: cold, and when it is known."""
    space = spaces.load(LARGE)
    found = {}
    for encoding in ("compact", "native"):
        constraint = Constraint("regex", space.regex(encoding))
        for name, engine in subject.engines.items():
            backend = backends.load(name, engine.vocabulary)
            cold, warm = (_first_mask(backend, constraint, engine.vocabulary.size) for _ in range(2))
            found[f"{encoding}, {name}"] = {"cold": round(cold, 4), "warm": round(warm, 5)}
    return {"space": LARGE, "vocabulary": engine.vocabulary.size, "seconds": found}


def _first_mask(backend: backends.Backend, constraint: Constraint, size: int) -> float:
    began = clock()
    backend.processor(constraint).process_logits(torch.zeros((1, 1), dtype=torch.long), torch.zeros((1, size)))
    return clock() - began


def bare(subject: Subject, rounds: int) -> dict[str, Any]:
    """Our engine's free greedy text against a loop of cached forward passes, in tokens a second."""
    engine = subject.usual
    found = {}
    for rows in (1, 32):
        ours: list[float] = []
        for i in range(-1, rounds):
            request = Request("navigator", _long(subject), rows, 0, 0.0, STEPS)
            seconds, steps = step(engine, request)
            plain = _loop(engine, request, steps) / steps
            if i >= 0:
                ours.append(plain / seconds)
        found[str(rows)] = spread(ours)
    return {"rows": found}


def _long(subject: Subject) -> str:
    """A prompt that is answered at length."""
    from eval.benchmarks._gpu_parity import mined

    return mined("navigator", 1)[0] if subject.tuned else "Tell a long story about a lighthouse."


def _loop(engine: TransformersEngine, request: Request, steps: int) -> float:
    """Seconds of the same answer without anything of ours: the prompt once, then a token a row at a time."""
    from transformers import DynamicCache

    engine._switch(request.role)
    ids_1L = torch.tensor([engine.chat.prompt(request).ids], device=engine._base.device)
    began = clock()
    with torch.inference_mode():
        cache = DynamicCache(config=engine._base.config)
        logits = engine._base(input_ids=ids_1L, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        if request.n > 1:
            cache.batch_repeat_interleave(request.n)
        token_N1 = logits[:, -1].argmax(-1, keepdim=True).expand(request.n, 1)
        for _ in range(steps - 1):
            logits = engine._base(input_ids=token_N1, past_key_values=cache, use_cache=True).logits
            token_N1 = logits[:, -1].argmax(-1, keepdim=True)
    return clock() - began


def searches(rounds: int) -> dict[str, Any]:
    """Seconds of the embedded model for each candidate that was evaluated: `new` against `free`, which asks again."""
    from collm_nas import search
    from collm_nas.evaluators import table

    space = spaces.load("digits-cells")
    evaluator = table.load(space, "digits-cells", "valid", [])
    ratios = []
    for seed in range(min(3, rounds)):
        each = {}
        for mode in ("new", "free"):
            result = search(space, evaluator, decoding=mode, seed=seed)
            each[mode] = result["seconds"]["llm"] / result["counts_by_proposer"]["model"]["evaluated"]
        ratios.append(each["new"] / each["free"])
    return {"times_free": spread(ratios)}


def run(model: str, rows: int, rounds: int) -> dict[str, Any]:
    """All of it; `searches` for the embedded model alone."""
    subject = Subject(model)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "modes": lambda: modes(subject, rows, rounds),
        "history": lambda: history(subject, rows, rounds),
        "compilation": lambda: compilation(subject),
        "bare_loop": lambda: bare(subject, rounds),
    }
    if subject.tuned:
        parts["an_evaluated_candidate"] = lambda: searches(rounds)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"model": model, "device": device, "threads": torch.get_num_threads()} | {k: f() for k, f in parts.items()}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="what constraints cost")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(json.dumps(run(args.model, args.rows, args.rounds), indent=1))


if __name__ == "__main__":
    main()
