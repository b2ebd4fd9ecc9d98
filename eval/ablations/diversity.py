"""How far candidates of one search lie apart (the column `diversity`)."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

MEASURE = "diversity"
QUESTION = "Does masking narrow the diversity of the candidates?"
CELLS = (
    DEFAULT,
    cell("masked", sampling="masked"),
    cell("legal", decoding="legal"),
    cell("free", decoding="free"),
)
