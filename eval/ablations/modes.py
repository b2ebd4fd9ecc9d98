"""The decoding modes, each of which adds a guarantee to the one before."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "What does each guarantee of constrained decoding bring?"
CELLS = (DEFAULT, *(cell(mode, decoding=mode) for mode in ("free", "json", "legal", "affordable")))
