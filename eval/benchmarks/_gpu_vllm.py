"""The embedded base with both of its adapters in vLLM, where that is installed: tokens a second, and the same text."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.benchmarks._gpu_parity import ROLES, greedy, mined
from eval.rows import embedded_model

WARM_UP = 16  # requests before the clock starts


def vllm(device: str, work: Path, *, requests: int, prompts: int, max_tokens: int) -> dict[str, Any] | str:
    """Tokens a second over requests for either adapter in one batch, and how many greedy answers are those of
    transformers; float32."""
    if find_spec("vllm") is None:
        return "not installed"
    # Its log is no part of the JSON on stdout; on a CPU, a cache of 1 GiB is enough.
    os.environ.update(HF_HUB_OFFLINE="1", VLLM_LOGGING_STREAM="ext://sys.stderr", VLLM_CPU_KVCACHE_SPACE="1")
    engine = _Engine(device, max_tokens)
    asked = {role: mined(role, prompts) for role in ROLES}
    found = engine.answers([(role, prompt) for role, texts in asked.items() for prompt in texts], temperature=0)
    expected = greedy(device, asked, max_tokens)
    each = {role: mined(role, (requests + 1) // 2) for role in ROLES}
    many = [(ROLES[i % 2], each[ROLES[i % 2]][i // 2]) for i in range(requests)]
    return {
        "answers": len(found),
        "equal": sum(a == b for a, b in zip(found, expected, strict=True)),
        "tokens_per_second": round(engine.speed(many)),
        "requests": requests,
        "max_tokens": max_tokens,
    }


class _Engine:
    def __init__(self, device: str, max_tokens: int) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        from finetune.recipes import EMBEDDED

        folder = embedded_model()
        self._max_tokens = max_tokens
        self._adapters = {role: LoRARequest(role, i, str(folder / role)) for i, role in enumerate(ROLES, start=1)}
        self._model = LLM(
            model=str(folder / "base"),
            dtype="float32",
            enable_lora=True,
            max_loras=len(ROLES) + 1,  # in 0.32, with the last place taken, requests without an adapter got its answers
            max_lora_rank=EMBEDDED.lora.rank,
            enforce_eager=device == "cpu",
            seed=0,
            **({"gpu_memory_utilization": 0.5} if device == "cuda" else {}),
        )

    def answers(self, asked: list[tuple[Any, str]], **how: Any) -> list[str]:
        return [output.text for output in self._generate(asked, **how)]

    def speed(self, asked: list[tuple[Any, str]]) -> float:
        """Tokens a second; no answer ends early."""
        how = {"temperature": 1.0, "seed": 0, "ignore_eos": True}
        self._generate(asked[:WARM_UP], **how)
        began = time.perf_counter()
        tokens = sum(len(output.token_ids) for output in self._generate(asked, **how))
        return tokens / (time.perf_counter() - began)

    def _generate(self, asked: list[tuple[Any, str]], **how: Any) -> list[Any]:
        from vllm import SamplingParams

        roles, prompts = zip(*asked, strict=True)
        params = SamplingParams(max_tokens=self._max_tokens, **how)
        adapters = [self._adapters[role] for role in roles]
        return [
            r.outputs[0] for r in self._model.generate(list(prompts), params, lora_request=adapters, use_tqdm=False)
        ]
