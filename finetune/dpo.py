"""DPO of the Navigator (Rafailov et al. 2023, arXiv 2305.18290): of two strategies for one point, the one that brought
more becomes likelier than the other, measured against the model that it starts from.

trl's DPOTrainer runs it, on pairs as token ids.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.traces import Policy
from finetune import further, watch
from finetune.further import REFERENCE, TRAINED, Curve, quietly
from finetune.recipes import Preference
from finetune.validation import SHOWN
from finetune.watch import Watch

if TYPE_CHECKING:
    from trl import DPOTrainer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Columns = dict[str, list[list[int]]]
"""`prompt_ids`, `chosen_ids`, `rejected_ids` of all pairs."""


def run(policy: Policy, adapter: Path, stage: Preference, pairs: Columns, work: Path, shown: Watch) -> Curve:
    """Train the policy's Navigator (from the last checkpoint under `work`, if any) and return what was logged.
    `adapter`: the weights that it starts from; `shown`: what is shown meanwhile."""
    trainer = create(policy, adapter, stage, pairs, work)
    further.go(trainer, stage, work, shown, watch.lines(shown, stage.steps))
    names = {"step": "step", "loss": "loss", **watch.PAIRS, **{name: name for name in SHOWN}}
    rows = [{said: row[name] for name, said in names.items() if name in row} for row in trainer.state.log_history]
    return [row for row in rows if len(row) > 1]


def create(policy: Policy, adapter: Path, stage: Preference, pairs: Columns, work: Path) -> DPOTrainer:
    """The trainer, with nothing trained yet."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class PairsDPOTrainer(DPOTrainer):
        """Takes pairs as they are, and logs a validation without what trl measured of the pairs."""

        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                super().log(logs, start_time)
            else:  # trl would add it here, and then forget it
                super(DPOTrainer, self).log(logs, start_time)

    model = policy.model
    model.set_adapter(TRAINED)
    head = model.get_output_embeddings()
    if not hasattr(head, "bias"):  # peft's cover of a head that is tied to new tokens; trl asks for both weights
        head.bias = head.original_module.bias
    model.peft_config["default"] = model.peft_config[TRAINED]  # trl makes its reference of the adapter of this name
    with quietly():
        trainer = PairsDPOTrainer(
            model=model,
            args=further.arguments(
                DPOConfig,
                stage,
                work,
                stage.batch,
                beta=stage.beta,
                loss_type=["sigmoid", "sft"] if stage.sft else ["sigmoid"],
                loss_weights=[1.0, stage.sft] if stage.sft else [1.0],
                max_length=None,
                lr_scheduler_type="linear",
            ),
            train_dataset=Dataset.from_dict(pairs),
            processing_class=policy.tokenizer,
        )
    del model.peft_config["default"]
    model.load_adapter(str(adapter), adapter_name=REFERENCE, local_files_only=True)  # trl copied no weights of ours
    model.set_adapter(TRAINED)
    for config in model.peft_config.values():
        config.base_model_name_or_path = ""  # else peft looks for that base, with each checkpoint, where none may be
    return trainer
