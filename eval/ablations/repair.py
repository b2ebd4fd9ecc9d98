"""What to do with illegal answers where nothing forbids them."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Can retries, or repair of illegal answers, stand in for the grammar?"
CELLS = (
    DEFAULT,
    cell("free, retried", decoding="free"),
    cell("free, repaired", decoding="free", variant="repair"),
)
