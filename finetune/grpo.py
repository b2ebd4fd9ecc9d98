"""GRPO of the Navigator (Shao et al. 2024, arXiv 2402.03300): strategies that bring more than others at their point
become likelier.

trl's GRPOTrainer runs it. Its data set is a list of numbers: for each, the roll-out function searches a landscape,
samples strategies by the very decoding of a search, and follows each of them. The model that is trained is the one
that answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.traces import Policy
from finetune import further, groups, masked
from finetune.further import REFERENCE, TRAINED, quietly
from finetune.recipes import Reinforcement
from finetune.validation import SHOWN
from finetune.watch import Watch, duration, say_validation

if TYPE_CHECKING:
    from trl import GRPOTrainer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

LOGGED = ("reward", "reward_std", "kl", "entropy", *(f"seconds/{what}" for what in groups.SPENT))
"""What a row of the curve holds, beside step, loss and validation: mean and spread of what strategies bring, KL and
entropy under the mask, and where the seconds went."""


def run(policy: Policy, adapter: Path, stage: Reinforcement, work: Path, shown: Watch) -> GRPOTrainer:
    """Train the policy's Navigator (from the last checkpoint under `work`, if any); logs are in the trainer's state.
    `adapter`: the weights that it starts from; `shown`: what is shown meanwhile."""
    trainer = create(policy, adapter, stage, work)
    further.go(trainer, stage, work, shown, lines(shown, stage.steps))
    policy.model.set_adapter(TRAINED)
    return trainer


def create(policy: Policy, adapter: Path, stage: Reinforcement, work: Path) -> GRPOTrainer:
    """The trainer, with nothing trained yet."""
    from datasets import Dataset
    from trl import GRPOTrainer

    spent = groups.Spent()

    class Timed(masked.trainer()):  # type: ignore[misc]
        """Logs where the seconds of a step go."""

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" not in logs:  # a validation: trl would add, and then forget, what it measured of the roll-outs
                super(GRPOTrainer, self).log(logs, start_time)
                return
            logs.update({f"seconds/{what}": round(seconds, 2) for what, seconds in spent.take().items()})
            super().log(logs, start_time)

    if stage.beta:
        policy.model.load_adapter(str(adapter), adapter_name=REFERENCE, local_files_only=True)
    policy.model.set_adapter(TRAINED)
    for config in policy.model.peft_config.values():
        config.base_model_name_or_path = ""  # else peft looks for that base, with each checkpoint, where none may be
    rows = stage.steps * stage.searches * stage.points
    with quietly():
        trainer = Timed(
            model=policy.model,
            reward_funcs=outcome,
            args=_arguments(stage, work),
            train_dataset=Dataset.from_dict({"prompt": [str(row) for row in range(rows)]}),
            processing_class=policy.tokenizer,
            rollout_func=rollouts_by(policy, stage, spent),
        )
    trainer.beta = stage.beta  # trl would look for adapters named otherwise; with this name it finds the copy
    return trainer


def outcome(*, outcome: list[float], **_: Any) -> list[float]:
    """The reward: what the roll-out function found."""
    return outcome


def rollouts_by(policy: Policy, stage: Reinforcement, spent: groups.Spent) -> Callable[..., dict[str, Any]]:
    """trl's `rollout_func`: numbers of points, each once for every strategy of its group, become answers and what they
    bring."""

    def roll_out(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        numbers = list(dict.fromkeys(int(row) // stage.points for row in prompts))
        found = [group for number in numbers for group in groups.of_search(number, policy, stage, spent)]
        policy.model.set_adapter(TRAINED)
        traces = [trace for group in found for trace in group.traces]
        return {
            "prompt_ids": [list(trace.prompt) for trace in traces],
            "completion_ids": [list(trace.tokens) for trace in traces],
            "logprobs": [list(trace.logps) for trace in traces],
            "allowed": [trace.allowed for trace in traces],
            "env_mask": [[int(len(ids) > 1) for ids in trace.allowed] for trace in traces],  # where there was a choice
            "outcome": [value for group in found for value in group.outcomes],
        }

    return roll_out


def _arguments(stage: Reinforcement, work: Path) -> Any:
    from trl import GRPOConfig

    return further.arguments(
        GRPOConfig,
        stage,
        work,
        stage.searches * stage.points * stage.group,
        num_generations=stage.group,
        temperature=1.0,
        shuffle_dataset=False,
        scale_rewards="group" if stage.scaled else "none",
        loss_type="dapo",  # the sum over all tokens at which there was a choice: long strategies count no less
        beta=0.0,  # see `create`
        lr_scheduler_type="constant_with_warmup",
    )


def lines(shown: Watch, last: int) -> Any:
    """A callback that says how far the training is, where it logs."""
    from transformers import TrainerCallback

    class Lines(TrainerCallback):
        began: tuple[float, int] = (0.0, 0)
        told: tuple[float, int] = (0.0, 0)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = self.told = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            now, step = time.monotonic(), state.global_step
            if "reward" in logs:
                left = (now - self.began[0]) / max(1, step - self.began[1]) * (last - step)
                whole = now - self.told[0]
                parts = ", ".join(f"{what} {logs[f'seconds/{what}'] / whole:.0%}" for what in groups.SPENT)
                pace = f"{whole / max(1, step - self.told[1]):.1f} s a step ({parts}), {duration(left)} left"
                brought = f"strategies bring {logs['reward']:+.4f} (spread {logs['reward_std']:.4f})"
                shown.say(f"{shown.name}: step {step} of {last}, {brought}, entropy {logs['entropy']:.2f}, {pace}")
                self.told = now, step
            say_validation(shown, step, logs)

    return Lines()


def curve(trainer: GRPOTrainer) -> list[dict[str, Any]]:
    """The rows that were logged: those of the training, and those of validations."""
    kept = ("step", "loss", *LOGGED, *SHOWN)
    rows = [{name: row[name] for name in kept if name in row} for row in trainer.state.log_history]
    return [row for row in rows if "reward" in row or not row.keys().isdisjoint(SHOWN)]
