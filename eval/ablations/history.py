"""What the Navigator loses with a part of what it reads."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the Navigator use the whole history, its own past strategies, and the scores?"
CELLS = (
    DEFAULT,
    cell("last 20 evaluations", variant="short-history"),
    cell("no past strategies", variant="no-past"),
    cell("scores permuted", variant="permuted-scores"),
)
