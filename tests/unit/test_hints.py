"""Advice in words: what is understood, and one sentence where nothing is."""

import pytest

from collm_nas import hints, spaces
from collm_nas.api import UserError

UNDERSTOOD = [
    ("nasbench201", "avoid none", "e01, e02, e12, e03, e13, e23: skip_connect or nor_conv_1x1 or nor_conv_3x3 or "
     "avg_pool_3x3"),
    ("nasbench201", "prefer conv3x3 late, no skip first", "e01: none or nor_conv_1x1 or nor_conv_3x3 or avg_pool_3x3; "
     "e03, e13, e23: nor_conv_3x3"),
    ("ofa-mbv3", "prefer kernel 7 last", "ks20: 7"),
    ("ofa-mbv3", "avoid expansion 3 first; depth 4", "d1, d2, d3, d4, d5: 4; e1: 4 or 6"),
    ("ofa-mbv3", "ks3=7\nresolution 224", "r: 224; ks3: 7"),
    ("ofa-mbv3", "small kernels first", "ks1: 3"),
    ("autoformer-tiny", "mlp 4 last", "mlp14: 4.0"),
    ("spos-shufflenet", "use 3 last", "b20: 3"),
    ("digits-cells", "prefer op1 conv3, avoid silu", "op1: conv3; act: relu or tanh"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "meant"), UNDERSTOOD)
def test_words_become_choices(name: str, text: str, meant: str) -> None:
    space = spaces.load(name)
    assert hints.words(hints.read(text, space), space) == meant


MISUNDERSTOOD = [
    (
        "ofa-mbv3",
        "prefer foo",
        "'foo' is neither a variable nor a choice of ofa-mbv3; its variables are called r, d, ks",
    ),
    ("ofa-mbv3", "kernel", "names no choice; write, e.g., 'prefer r 224'"),
    ("digits-cells", "op1 relu", "'relu' is no choice of op1"),
    ("digits-cells", "large stem", "'large' is no choice of stem"),
    ("digits-cells", " ; ", "says nothing"),
    ("digits-cells", "act relu, act tanh", "its clauses leave no choice of 'act'"),
    ("digits-cells", "avoid act relu tanh silu", "leaves no choice of 'act'"),
]


@pytest.mark.parametrize(("name", "text", "why"), MISUNDERSTOOD)
def test_what_says_nothing_is_refused(name: str, text: str, why: str) -> None:
    with pytest.raises(UserError) as refused:
        hints.read(text, spaces.load(name))
    assert str(refused.value).startswith("--hint ") and why in str(refused.value)
