"""QLoRA: the base under an adapter in 4 bits (nf4 with quantised scales, by bitsandbytes), the adapter in float32.

(Dettmers et al. 2023, arXiv 2305.14314.)
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("nf4",)
"""What a recipe's `quantize` may say."""


def check(kind: str | None) -> None:
    """UserError for an unknown kind, or where bitsandbytes is missing."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"--quantize {kind!r} is unknown; legal: {', '.join(KINDS)}")
    if kind is not None and find_spec("bitsandbytes") is None:
        raise UserError(
            f"--quantize {kind} needs the package bitsandbytes, which is not installed; get it with: "
            "pip install 'collm-nas[qlora]'"
        )


def arguments(kind: str) -> dict[str, Any]:
    """What `from_pretrained` is given. It computes in bfloat16 on a GPU, in float32 on a CPU."""
    import torch
    from transformers import BitsAndBytesConfig

    gpu = torch.cuda.is_available()
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if gpu else torch.float32,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device() if gpu else "cpu"}}


def keep_gradients(model: PreTrainedModel) -> None:
    """To be called right after loading, before any forward pass.

    On a CPU with AVX512-BF16, bitsandbytes 0.50 packs weights anew in the first pass in evaluation mode (a validation
    is one); what is trained later then goes through an operation without gradients, and LoRA's are wrong in silence.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def is_quantized(model: Any) -> bool:
    """Whether its weights are of 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
