"""Cooler and warmer sampling."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "How much does the temperature matter?"
CELLS = (DEFAULT, *(cell(f"temperature {t:g}", temperature=t) for t in (0.5, 0.7, 1.3)))
