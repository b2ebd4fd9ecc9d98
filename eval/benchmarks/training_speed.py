"""Training tokens a second: this project's trainer against a bare PyTorch loop on the same model and data.

`python -m eval.benchmarks.training_speed [--lora] [--batch 32] [--steps 12] [--rounds 3]` prints a JSON object. All
take the same steps of the same micro-batches from the same weights with AdamW, and end at the same loss. The bare loop
has the same head, at target positions alone; `plain` is what most write, the model's own loss over all positions. Each
has a process of its own a round, so that its peak memory is its own; rounds alternate. The clock runs over the second
half of the steps; tokens are those of examples, padding does not count. On a CPU seconds are the process's own; use one
thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

LEAST = 4096
"""Tokens a step, at least."""
LOOPS = ("ours", "bare", "plain")


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained: the embedded recipe's base, or an adapter (of the same shape; weights are random)."""

    dataset: Path
    work: Path
    lora: bool
    batch: int
    steps: int

    def parts(self) -> tuple[Any, Any, Any, Any]:
        """Model, tokenizer, examples and training."""
        from finetune import data, tokenizer
        from finetune.pretrain import new_model
        from finetune.recipes import EMBEDDED

        tok = tokenizer.build()
        training = EMBEDDED.navigator if self.lora else replace(EMBEDDED.base[-1], muon_rate=None)
        training = replace(training, steps=self.steps, batch=self.batch, save_every=10**6, warmup=0, final=1.0)
        examples = data.load(self.dataset, tok, "navigator", self.work / "cache")
        return new_model(EMBEDDED.shape, tok, 0), tok, examples, training


def ours(case: Case) -> dict[str, float]:
    """`finetune.trainer` as the command runs it."""
    from finetune import trainer
    from finetune.recipes import EMBEDDED
    from finetune.watch import Watch

    model, tok, examples, training = case.parts()
    lora, marks = EMBEDDED.lora if case.lora else None, []
    shown = Watch("ours", lambda line: marks.append(_now()))  # a line at half of the steps, and at the end
    with tempfile.TemporaryDirectory() as work:
        done = trainer.run(model, tok, examples, training, Path(work), lora, shown=shown)
    rows = [row for row in done.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [case.steps // 2, case.steps]
    order = trainer.order(examples["length"], training)
    timed = order[case.steps // 2 * case.batch : case.steps * case.batch]
    lengths = list(examples["length"])
    tokens = sum(lengths[i] for i in timed)
    return {"tokens_per_second": round(tokens / (marks[-1] - marks[0])), "loss": round(rows[-1]["loss"], 4)}


def loop(case: Case, plain: bool) -> dict[str, float]:
    """Nothing but torch: batches, forward and backward passes, clipping, AdamW."""
    import torch

    from finetune import trainer

    model, _, examples, training = case.parts()
    model = _with_adapter(model) if case.lora else model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = [w for w in model.to(device).train().parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, training.learning_rate, training.betas, weight_decay=training.decay)
    micro = min(training.micro_batch, training.batch)
    order = trainer.order(examples["length"], training)
    began, tokens = 0.0, 0
    losses: list[float] = []
    for step in range(case.steps):
        if step == case.steps // 2:
            began, tokens, losses = _now(), 0, []
        rows = [examples[i] for i in order[step * training.batch : (step + 1) * training.batch]]
        losses.append(_step(model, rows, micro, plain, device))
        torch.nn.utils.clip_grad_norm_(weights, training.clip)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(row["length"] for row in rows)
    return {"tokens_per_second": round(tokens / (_now() - began)), "loss": round(sum(losses) / len(losses), 4)}


def _step(model: Any, rows: list[dict[str, Any]], micro: int, plain: bool, device: str) -> float:
    import torch
    from torch.nn.functional import cross_entropy

    from finetune import trainer
    from finetune.loss import target_logits
    from finetune.shared_prompt import IGNORED

    count, total = sum(label != IGNORED for row in rows for label in row["labels"]), 0.0
    for start in range(0, len(rows), micro):
        part = rows[start : start + micro]
        length = max(row["length"] for row in part)
        ids, labels = (
            torch.tensor([row[name] + [filling] * (length - row["length"]) for row in part], device=device)
            for name, filling in (("input_ids", 0), ("labels", IGNORED))
        )
        with torch.autocast(device, torch.bfloat16, enabled=trainer.bf16_pays()):
            if plain:
                loss = model(input_ids=ids, labels=labels, num_items_in_batch=count).loss
            else:
                logits, targets = target_logits(model, {"input_ids": ids, "labels": labels})
                loss = cross_entropy(logits.float(), targets, reduction="sum") / count
        loss.backward()
        total += float(loss.detach())
    return total


def _with_adapter(model: Any) -> Any:
    from peft import get_peft_model

    from finetune import trainer
    from finetune.recipes import EMBEDDED

    return get_peft_model(model, trainer._peft(EMBEDDED.lora, ()))


def _now() -> float:
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(name: str, case: Case) -> dict[str, float]:
    """One loop in this process: tokens a second, mean loss of the steps on the clock, peak memory."""
    import torch

    found = ours(case) if name == "ours" else loop(case, name == "plain")
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**found, "peak_MiB": round(peak / 2**20)}


def run(lora: bool, batch: int, steps: int, rounds: int, work: Path) -> dict[str, Any]:
    """All loops, alternating; ratios of speed are medians over the rounds."""
    import torch

    from data_gen.examples import Form
    from data_gen.mine import mine
    from data_gen.mine_landscapes import Landscapes

    mine(Landscapes(landscapes=max(20, batch * steps // 2), digests=2, form=Form(targets=1)), work / "mined")
    case = Case(work / "mined", work, lora, batch, steps)
    _, _, examples, _ = case.parts()  # tokenized once, before any clock
    tokens = batch * statistics.mean(examples["length"])
    assert tokens >= LEAST, f"{tokens:.0f} tokens a step are fewer than {LEAST}; give a larger --batch"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in LOOPS}
    for _ in range(rounds):
        for name in LOOPS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                found[name].append(fresh.submit(measure, name, case).result())
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "kind": "LoRA" if lora else "all weights",
        "tokens_a_step": round(tokens),
        "loops": {
            name: {key: statistics.median(r[key] for r in rows) for key in rows[0]} for name, rows in found.items()
        },
        "times_as_fast": {
            name: round(statistics.median(_ratios(found["ours"], found[name])), 3) for name in LOOPS if name != "ours"
        },
    }


def _ratios(ours: list[dict[str, float]], other: list[dict[str, float]]) -> list[float]:
    pairs = zip(ours, other, strict=True)
    return [a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs]


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="training tokens a second against a bare loop")
    parser.add_argument("--lora", action="store_true", help="an adapter, instead of all weights")
    parser.add_argument("--batch", type=int, default=32, help="examples a step")
    parser.add_argument("--steps", type=int, default=12, help="an even number, at most 40")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(run(args.lora, args.batch, args.steps, args.rounds, Path(work)), indent=1))


if __name__ == "__main__":
    main()
