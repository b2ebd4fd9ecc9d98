"""The decoding modes, each of which adds a guarantee to the one before; `json` has a question of its own."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "What does each guarantee of constrained decoding bring?"
CELLS = (
    DEFAULT,
    cell("free", decoding="free"),
    cell("legal", decoding="legal"),
    cell("affordable", decoding="affordable"),
)
