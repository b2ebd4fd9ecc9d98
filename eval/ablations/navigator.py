"""What the search loses without the Navigator's strategies."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the Navigator help?"
CELLS = (
    DEFAULT,
    cell("best points in its place", variant="best-points"),
    cell("nothing in its place", variant="blind"),
)
