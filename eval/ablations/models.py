"""The paper's own way by a real, untuned language model (SmolLM2-135M), without a grammar and with one.

A hundred times as slow as the rest: at most three seeds of 40 queries. Batches of 20, as the paper's Generator writes.
"""

from __future__ import annotations

from typing import Any

from eval.ablations import cell

SHORT = {"seeds": 3, "budget": 40}
PAPER: dict[str, Any] = {"model": "smollm2", "preset": "paper", "protocol": {**SHORT, "batch": 20}}

QUESTION = "What does a larger model bring that was not tuned, and what does the grammar change there?"
CELLS = (
    cell("embedded, 40 queries", protocol=SHORT),
    cell("SmolLM2, as in the paper", **PAPER),
    cell("SmolLM2, legal", decoding="legal", **PAPER),
    cell("SmolLM2, new", decoding="new", **PAPER),
    cell("SmolLM2, new, on vLLM", decoding="new", engine="vllm", **PAPER),
)
