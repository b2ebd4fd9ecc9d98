"""Whether each role needs its own adapter."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does each role need its own adapter?"
CELLS = (
    DEFAULT,
    cell("Navigator's adapter for both", variant="navigator-for-both"),
    cell("Generator's adapter for both", variant="generator-for-both"),
    cell("adapters exchanged", variant="roles-exchanged"),
)
