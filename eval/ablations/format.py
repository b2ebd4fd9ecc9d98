"""Prompts that describe variables, legal values and the written form, or leave all of that to the grammar."""

from __future__ import annotations

from pathlib import Path

from eval.ablations import cell
from eval.ablations.models import PAPER

QUESTION = "Does it matter that the prompt describes the space, where a grammar holds the form anyway?"
CELLS = (
    cell("SmolLM2, new", decoding="new", **PAPER),
    cell(
        "SmolLM2, new, told nothing",
        decoding="new",
        prompts=str(Path(__file__).parent / "prompts_without_format"),
        **PAPER,
    ),
)
