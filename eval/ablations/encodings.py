"""The two spellings of an architecture."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the native encoding do as well as the compact one, which the adapters were trained on?"
CELLS = (DEFAULT, cell("native", encoding="native"))
