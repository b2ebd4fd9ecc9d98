"""What is shown of a training while it runs: a line now and then, validation, TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from finetune.validation import SHOWN, Validation

PAIRS = {"rewards/margins": "margin", "rewards/accuracies": "accuracy", "rewards/chosen": "chosen"}
"""What trl measures of pairs, and our words: by how much more than before the better answer is likelier than the worse
one (times beta), the share of pairs where it is, and how much likelier the better one became itself."""


@dataclass(frozen=True, slots=True)
class Watch:
    """`name`: of the stage; `tensorboard`: the folder for its event files, if any."""

    name: str
    say: Callable[[str], None]
    validation: Validation | None = None
    tensorboard: Path | None = None


@dataclass(slots=True)
class Pace:
    """Tokens of examples (padding does not count) a second, since it was last asked."""

    tokens: int = 0
    since: float = field(default_factory=time.monotonic)

    def take(self) -> float:
        """The pace; counting begins anew."""
        now = time.monotonic()
        pace = self.tokens / max(now - self.since, 1e-9)
        self.tokens, self.since = 0, now
        return pace


def check_tensorboard() -> None:
    """UserError without the extra of that name."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError("--tensorboard needs the extra of that name: pip install 'collm-nas[tensorboard]'") from None


def callbacks(watch: Watch, shown: Any, every: int, last: int, log: Callable[[dict[str, float]], None]) -> list[Any]:
    """`shown`, which says how far it is, and what else is asked for; `every`: steps between two validations."""
    made = [shown]
    if watch.tensorboard is not None:
        made.append(tensorboard(watch.tensorboard))
    if watch.validation is not None and every:
        made.append(validate(watch.validation, every, last, log))
    return made


def lines(watch: Watch, last: int) -> Any:
    """A callback that says how far the training is, where it logs; `last`: its last step."""
    from transformers import TrainerCallback

    class Lines(TrainerCallback):
        began: tuple[float, int] = (0.0, 0)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            step, (began, first) = state.global_step, self.began
            if "loss" in logs:
                left = (time.monotonic() - began) / max(1, step - first) * (last - step)
                more = [f"{words} {logs[name]:.4f}" for name, words in PAIRS.items() if name in logs]
                if "tokens_per_second" in logs:
                    more.append(f"{logs['tokens_per_second']:,.0f} tokens/s")
                told = ", ".join([f"loss {logs['loss']:.4f}", *more, f"{duration(left)} left"])
                watch.say(f"{watch.name}: step {step} of {last}, {told}")
            say_validation(watch, step, logs)

    return Lines()


def say_validation(watch: Watch, step: int, logs: dict[str, float]) -> None:
    """A line, where something was measured."""
    found = [f"{words} {logs[name]:.4f}" for name, words in SHOWN.items() if name in logs]
    if found:
        watch.say(f"{watch.name}: step {step}, validation: {', '.join(found)}")


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def validate(validation: Validation, every: int, last: int, log: Callable[[dict[str, float]], None]) -> Any:
    """A callback that measures after each `every` steps and at the end, and logs what it found."""
    from transformers import TrainerCallback

    class Validate(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.is_world_process_zero and (state.global_step % every == 0 or state.global_step == last):
                asked = control.should_log  # which logging takes back
                log(validation.measure(model))
                control.should_log = asked

    return Validate()


def tensorboard(folder: Path) -> Any:
    """A callback that writes what is logged to event files. A training that goes on adds to what is there."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers import TrainerCallback

    class TensorBoard(TrainerCallback):
        writer: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                self.writer = SummaryWriter(folder, purge_step=state.global_step + 1)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if self.writer is not None:
                for name, value in logs.items():
                    if not name.startswith(("train_", "total_", "epoch")):
                        self.writer.add_scalar(name, value, state.global_step)
                self.writer.flush()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.writer is not None:
                self.writer.close()

    return TensorBoard()
