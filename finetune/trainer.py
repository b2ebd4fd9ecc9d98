"""One way to train, for the base and the adapters alike: trl's SFTTrainer on tokenized examples, resumable after a
kill."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.prompts import ANCHOR_TOKEN, DIRECTIONS_TOKEN
from finetune import packing, processes, quantized, shared_prompt, watch
from finetune.loss import target_logits, weights
from finetune.recipes import Lora, Training
from finetune.validation import SHOWN
from finetune.watch import Pace, Watch

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTTrainer

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (1.7 times float32 on a CPU that does)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def mixed_order(lengths: Sequence[int], micro_batch: int, seed: int) -> list[int]:
    """An order of the examples in which each micro-batch has about one length, and a step has all lengths.

    Padding would be half of a mixed batch. But where a whole step has one length (and so one role, size of space and
    length of history) the model is pulled to and fro and learns to copy the best instead of reading the evidence.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    pool = 64 * micro_batch
    size = np.asarray(lengths)
    cut = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(size[part], kind="stable")]
        micro = [part[i : i + micro_batch] for i in range(0, len(part) - micro_batch + 1, micro_batch)]
        cut += [micro[i] for i in rng.permutation(len(micro))]
    return [int(i) for batch in cut for i in batch]


def any_order(examples: int, seed: int) -> list[int]:
    """All examples in an order of chance, where rows are filled up and lengths don't matter."""
    import numpy as np

    return [int(i) for i in np.random.default_rng(seed).permutation(examples)]


def packs() -> bool:
    """Whether a pass has several examples in a row: on a card, in one process (trl's own loss knows no such rows)."""
    import torch

    return torch.cuda.is_available() and processes.count() == 1


def order(lengths: Sequence[int], training: Training) -> list[int]:
    """The order in which a training takes the examples of these lengths."""
    if packs():
        return any_order(len(lengths), training.seed)
    return mixed_order(lengths, _micro_batches(training)[0], training.seed)


def _target_only(training: Training, marks: Sequence[int]) -> type[SFTTrainer]:
    """SFTTrainer with our loss, which logs its pace, with the recipe's order and optimiser; `marks`: tokens of which
    the first begins a strategy's first anchor, and the second ends it."""
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class TargetOnlySFTTrainer(SFTTrainer):
        pace = Pace()

        def _get_train_sampler(self, *_: Any) -> list[int]:
            return order(self.train_dataset["length"], training)

        optimizer: Any

        def create_optimizer(self, model: Any = None) -> Any:
            if training.muon_rate is None:
                return super().create_optimizer(model)
            if self.optimizer is None:
                from finetune.optimizer import MuonAndAdamW

                self.optimizer = MuonAndAdamW(self.model if model is None else model, training)
            return self.optimizer

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            self.pace.tokens += int(inputs["attention_mask"].sum()) * processes.count()
            if processes.count() > 1:  # trl's loss, since gradients are shared in the model's own forward alone
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            with self.accelerator.autocast():
                inner = self.accelerator.unwrap_model(model)
                logits_NV, targets_N = target_logits(inner, inputs)
            count = len(targets_N) if num_items_in_batch is None else num_items_in_batch
            losses_N = cross_entropy(logits_NV.float(), targets_N, reduction="none")
            if training.first_anchor != 1:
                losses_N = losses_N * weights(inputs["labels"], marks, training.first_anchor, inputs.get("parts"))
            loss = losses_N.sum() / count
            return (loss, {"logits": logits_NV}) if return_outputs else loss

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs["tokens_per_second"] = round(self.pace.take())
            super().log(logs, start_time)

    return TargetOnlySFTTrainer


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: Dataset,
    training: Training,
    work: Path,
    lora: Lora | None = None,
    new_tokens: Sequence[int] = (),
    shown: Watch | None = None,
) -> SFTTrainer:
    """Train (from the last checkpoint under `work`, if any) and return the trainer; logs are in its state.

    `new_tokens`: ids whose embeddings are trained beside the adapter; `shown`: what is shown meanwhile.
    """
    from transformers import PrinterCallback

    if training.first_anchor != 1 and processes.count() > 1:
        raise UserError("a recipe whose `first_anchor` is not 1 trains in one process; change it by --config")
    marks = tokenizer.convert_tokens_to_ids([ANCHOR_TOKEN, DIRECTIONS_TOKEN])
    trainer = _target_only(training, marks)(
        model=model,
        args=_arguments(training, work, quantized.is_quantized(model)),
        train_dataset=examples,
        data_collator=partial(packing.packed if packs() else shared_prompt.collate, padding=tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=_peft(lora, new_tokens) if lora else None,
        callbacks=[_stop_at(training.stop)] if training.stop else None,
    )
    trainer.remove_callback(PrinterCallback)
    _in_float32(trainer.model)
    last = min(training.steps, training.stop or training.steps)
    if shown is not None:
        for callback in watch.callbacks(shown, watch.lines(shown, last), training.validate_every, last, trainer.log):
            trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=last_checkpoint(work, last))
    return trainer


def _in_float32(model: Any) -> None:
    """trl turns adapters on a quantised base to bfloat16, in which small updates are lost."""
    if quantized.is_quantized(model):
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()


def _arguments(training: Training, work: Path, is_quantized: bool) -> Any:
    import torch
    from trl import SFTConfig

    gpu = torch.cuda.is_available()
    micro, accumulated = _micro_batches(training)
    return SFTConfig(
        output_dir=str(work),
        max_steps=training.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulated,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": training.final},
        warmup_steps=training.warmup,
        weight_decay=training.decay,
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        max_grad_norm=training.clip,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        logging_steps=max(1, min(20, training.steps // 2)),
        save_strategy="steps",
        save_steps=training.save_every,
        save_total_limit=2,
        bf16=bf16_pays() and (gpu or not is_quantized),
        **{checkpointing(SFTConfig): False},
        use_cpu=not gpu,
        dataloader_pin_memory=False,
        # A card would wait for batches to be put together, which a CPU's own steps hardly notice.
        dataloader_num_workers=min(4, os.cpu_count() or 1) if gpu else 0,
        dataloader_persistent_workers=gpu,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
        seed=training.seed,
    )


GPU_TIMES = 8
"""A recipe's micro-batches suit a CPU's caches; a card, which waits for the next kernel with these, takes so many at
once (the embedded base: 1,000,000 tokens a second against 31,000, docs/LOG.md)."""


def _micro_batches(training: Training) -> tuple[int, int]:
    """Examples of one, and how many a process takes a step; UserError where they can't be shared out evenly."""
    shared = processes.count()
    most = training.micro_batch * (GPU_TIMES if packs() else 1)  # unpacked, a whole step would have one length
    micro = max(1, min(most, training.batch // shared))
    accumulated = max(1, training.batch // (micro * shared))
    if shared > 1 and micro * accumulated * shared != training.batch:
        raise UserError(f"a step of {training.batch} examples can't be shared out among {shared} processes")
    return micro, accumulated


def checkpointing(config: Any) -> str:
    """What the installed transformers calls recomputation of activations, which trl turns on: 5.17 has only the name
    that later ones deprecate."""
    new = "activation_checkpointing"
    return new if new in config.__dataclass_fields__ else "gradient_checkpointing"


def _stop_at(step: int) -> Any:
    """A callback that ends training after this step."""
    from transformers import TrainerCallback

    class StopAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= step

    return StopAt()


def last_checkpoint(work: Path, steps: int) -> str | None:
    """The last checkpoint before the end. From one *at* the end, the Trainer would take one step too many."""
    found = {int(path.name.rpartition("-")[2]): path for path in work.glob("checkpoint-*")}
    unfinished = [step for step in found if step < steps]
    return str(found[max(unfinished)]) if unfinished else None


def _peft(lora: Lora, new_tokens: Sequence[int]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        trainable_token_indices=list(new_tokens) or None,
    )


def keep(trainer: SFTTrainer, tokenizer: PreTrainedTokenizerFast, target: Path, base: str | None = None) -> None:
    """Write the trained weights (and for a base its tokenizer) and the loss curve, whole or not at all. `base`: how an
    adapter names a base that does not lie beside it."""
    if processes.first():
        _write(trainer, tokenizer, target, base)
    processes.wait()


def _write(trainer: SFTTrainer, tokenizer: PreTrainedTokenizerFast, target: Path, base: str | None) -> None:
    import json

    part = target.with_suffix(".part")
    trainer.model.save_pretrained(part)
    if (part / "adapter_config.json").exists():
        name_base(part, base or "../base")
    else:
        tokenizer.save_pretrained(part)
    rows = [{k: row[k] for k in ("step", "loss", *SHOWN) if k in row} for row in trainer.state.log_history]
    (part / "loss.json").write_text(json.dumps([row for row in rows if len(row) > 1]))
    part.rename(target)


def name_base(adapter: Path, base: str) -> None:
    """Name the base by its place beside the adapter, not by where it lay in training; peft's empty card goes."""
    import json

    path = adapter / "adapter_config.json"
    config = {**json.loads(path.read_text()), "base_model_name_or_path": base}
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (adapter / "README.md").unlink(missing_ok=True)
