"""How likely a model finds each of some texts, all in one pass: read from answers that are held to these alone."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from collm_nas.api import END, Completion, Constraint, Engine, Request, Role, UserError

_ROOM = 8  # tokens beyond the longest text
_LEAST = 2.0**-54  # what float64 leaves of 1 - p where p rounds to 1
_REWEIGHING = ("reweighted", "asap")  # ways of sampling that know no temperature 0


def logps(
    engine: Engine, role: Role, prompt: str, texts: Sequence[str], seed: int, *, opening: bool = False
) -> list[float]:
    """The log-probability of each text (distinct ones) as the answer; with `opening`, as how the answer begins.

    It is the model's own law, whatever a search draws from: at temperature 0, where nothing is thrown away, an engine
    tells that of temperature 1. UserError where it tells none.
    """
    greedy = engine.describe().get("sampling") not in _REWEIGHING
    ask = Request(
        role=role,
        prompt=prompt,
        n=len(texts),
        seed=seed,
        temperature=0.0 if greedy else 1.0,
        max_tokens=max(map(len, texts)) + _ROOM,
        constraint=Constraint("regex", "|".join(f"({re.escape(text)})" for text in texts)),
        mask=_These(texts),
    )
    found = {answer.text: _begun(answer) if opening else answer.logp for answer in engine.generate(ask)}
    known = [found.get(text) for text in texts]
    if len(found) > len(texts) or None in known:
        raise UserError("this engine does not say how likely an answer is, so that it can't rank; use another --model")
    return [logp for logp in known if logp is not None]


def _begun(answer: Completion) -> float | None:
    """Without what the end cost, which the model would not have written here: nothing but the end was allowed there,
    so that it cost nothing among what is allowed; every earlier token's share is what was not removed."""
    if answer.logp_masked is None:
        return None
    return answer.logp_masked + sum(math.log(max(1.0 - removed, _LEAST)) for removed in answer.removed[:-1])


class _These:
    """`api.TextMask` of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text + END for text in texts]

    def count(self, prefix: str) -> int:
        """How many of them begin so."""
        return sum(text.startswith(prefix) for text in self._texts)

    def strings(self, most: int) -> list[str] | None:
        """They, where they are no more than that."""
        return [text.removesuffix(END) for text in self._texts] if len(self._texts) <= most else None
