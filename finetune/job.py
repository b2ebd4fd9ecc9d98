"""What one run of `finetune` was asked for: a frozen value that its stages read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import data, processes
from finetune.recipes import Recipe, Training
from finetune.validation import Validation
from finetune.watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """`held`: the units of the datasets that nothing is trained on; `out`: the model folder."""

    recipe: Recipe
    datasets: Sequence[Path]
    digest_version: int
    held: frozenset[data.Unit]
    out: Path
    say: Callable[[str], None]
    tensorboard: bool = False

    @property
    def work(self) -> Path:
        """Checkpoints, tokenized examples and event files."""
        return self.out / "work"

    def examples(
        self, at: int, tok: PreTrainedTokenizerFast, role: str | None, **how: Any
    ) -> tuple[Dataset, list[dict[str, list[int]]]]:
        """What of dataset number `at` is trained on, and what is held out of it."""
        told = {name: how[name] for name in ("optimum_only", "longest") if name in how}
        if processes.count() > 1:
            how["answers"] = 1  # trl's own loss, which several processes take, knows no shared prompts
        cache = self.work / f"cache-{at}"
        with processes.in_turn():
            training = data.load(self.datasets[at], tok, role, cache, held=self.held, **how)
        return training, data.validation(self.datasets[at], tok, role, self.held, **told)

    def watch(
        self,
        stage: str,
        training: Training,
        tok: PreTrainedTokenizerFast,
        held_out: list[dict[str, list[int]]],
        proposes: bool,
    ) -> Watch:
        """How a stage is shown; `proposes`: whether it is a Navigator."""
        version = self.digest_version if proposes else None
        validation = Validation(held_out, tok, training.micro_batch, version)
        return Watch(stage, self.say, validation, self.work / "tensorboard" / stage if self.tensorboard else None)
