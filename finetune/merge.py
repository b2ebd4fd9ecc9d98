"""Base and adapter as one: a plain folder of Hugging Face weights a role, for programs that load no adapters."""

from __future__ import annotations

from pathlib import Path

from collm_nas.api import Role
from finetune.bases import Base


def merge(base: Base, role: Role, out: Path) -> Path:
    """Write `out/merged/ROLE` (float32, with its tokenizer), whole or not at all; returns that folder.

    An adapter that was tuned on a base of 4 bits is merged with the base as it was before.
    """
    target = out / "merged" / role
    if target.exists():
        return target
    import torch
    from peft import PeftModel

    model, tok, new = base.load(dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, out / role).merge_and_unload(safe_merge=True)
    if new:  # without the rows that no token has: they were never trained, and a free sampler would draw them
        merged.resize_token_embeddings(len(tok), mean_resizing=False)
    part = target.with_suffix(".part")
    merged.save_pretrained(part)
    tok.save_pretrained(part)
    part.rename(target)
    return target
