"""Adapters, and the base that was trained from scratch on the same tasks, with and without the grammar."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does tuning make the grammar redundant, and do the adapters add to the base?"
CELLS = (
    DEFAULT,
    cell("base alone", tuned=0, encoding="compact"),
    cell("free", decoding="free"),
    cell("base alone, free", tuned=0, encoding="compact", decoding="free"),
)
