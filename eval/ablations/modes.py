"""The decoding modes, each of which adds a guarantee to the one before.

`json`, whose form the adapters never met, takes ten times as long as the others: three seeds.
"""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "What does each guarantee of constrained decoding bring?"
CELLS = (
    DEFAULT,
    cell("free", decoding="free"),
    cell("json", decoding="json", protocol={"seeds": 3}),
    cell("legal", decoding="legal"),
    cell("affordable", decoding="affordable"),
)
