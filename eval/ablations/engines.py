"""The engines, which should give the same candidates."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Do the engines give the same search?"
CELLS = (DEFAULT, cell("vllm", engine="vllm"))
