"""Cutting the tail of what the models may say."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does it help to draw each token from the likeliest alone?"
CELLS = (DEFAULT, *(cell(f"top-p {p:g}", top_p=p) for p in (0.8, 0.95)))
