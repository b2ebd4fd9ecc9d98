"""Presets: options of a search that belong together, by name; what `reasoning` means to a model, and which
`top_p` there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collm_nas.api import UserError

THINKING = 4096
"""Tokens of thinking that `auto` grants a model which knows how to."""

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "decoding": "free",
        "sampling": "masked",
        "encoding": "native",
        "temperature": 0.6,
        "reasoning": "auto",
        "init": 0,
        "batch": 20,
        "over_cap": "evaluate",
    }
}
"""Options that a preset sets where they are not given. `paper`: Algorithm 1 of arXiv 2509.26037v2 as printed, by an
untuned chat model (see `collm_nas.paper`)."""


def thinking(reasoning: int | str, engine: Mapping[str, Any]) -> int:
    """Tokens of thinking before each answer: `off`, `auto` or a number, given what the engine says of itself.

    UserError where a number is asked of a model that was not made to think.
    """
    tokens = {"off": 0, "auto": THINKING if engine.get("thinks") else 0}.get(str(reasoning), reasoning)
    if tokens and not engine.get("thinks"):
        raise UserError(
            f"--reasoning {reasoning} needs a model whose chat template knows </think>, and this one's does not; use "
            "--reasoning off, or a model that reasons"
        )
    return int(tokens)


def check_top_p(top_p: Any) -> None:
    """UserError where it is no share of the probability that a token may be drawn from."""
    if not isinstance(top_p, int | float) or isinstance(top_p, bool) or not 0 < top_p <= 1:
        raise UserError(f"--top-p must be a number above 0, and at most 1 (nothing is cut), but is {top_p!r}")
