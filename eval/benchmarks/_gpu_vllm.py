"""The embedded model on the vLLM engine, where that is installed: tokens a second, and the same text."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from collm_nas.api import Request
from eval.benchmarks._gpu_parity import ROLES, greedy, mined
from inference.folder import EMBEDDED


def vllm(device: str, work: Path, *, requests: int, prompts: int, max_tokens: int) -> dict[str, Any] | str:
    """Tokens a second over `requests` rows of free text, and how many greedy answers of both adapters are those of
    transformers; float32."""
    if find_spec("vllm") is None:
        return "not installed"
    from inference import engines

    engine = engines.load("vllm", EMBEDDED)
    asked = {role: mined(role, prompts) for role in ROLES}
    each = [Request(role, prompt, 1, 0, 0.0, max_tokens) for role, texts in asked.items() for prompt in texts]
    found = [engine.generate(request)[0].text for request in each]
    expected = greedy(device, asked, max_tokens)
    many = Request("navigator", mined("navigator", 1)[0], requests, 0, 1.0, max_tokens)
    engine.generate(many)  # warms up
    began = time.perf_counter()
    tokens = sum(answer.tokens for answer in engine.generate(many))
    return {
        "answers": len(found),
        "equal": sum(a == b for a, b in zip(found, expected, strict=True)),
        "tokens_per_second": round(tokens / (time.perf_counter() - began)),
        "requests": requests,
        "max_tokens": max_tokens,
    }
