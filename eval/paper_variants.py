"""The paper's own search (`collm_nas.paper`) with one part changed: who remembers, one model in place of two, one that
picks."""

from __future__ import annotations

from typing import Any

from collm_nas import paper, paper_answers
from collm_nas.api import Candidate, Completion, Engine, Problem, Role, Turn, UserError
from collm_nas.paper import ARCHITECTURES, Paper
from eval.picking import NAME as PICKS
from eval.picking import PickInWords, Reporting


class NoPast(Paper):
    """A Navigator that is told of the last round and the best so far, and forgets what it said before."""

    def _navigate(self) -> str:
        self._chat = self._chat[:1]
        return super()._navigate()


class StatefulGenerator(Paper):
    """A Generator whose earlier strategies and answers stay in its chat."""

    _said: tuple[Turn, ...] = ()

    def _call(self, role: Role, prompt: str, n: int, max_tokens: int, history: tuple[Turn, ...]) -> list[Completion]:
        if role == "navigator":
            return super()._call(role, prompt, n, max_tokens, history)
        answers = super()._call(role, prompt, n, max_tokens, (*history, *self._said))
        if answers:
            self._said = (*self._said, ("user", prompt), ("assistant", "\n".join(answer.text for answer in answers)))
        return answers


class ForgetfulNavigator(StatefulGenerator, NoPast):
    """The Generator remembers and the Navigator does not."""


class OneModel(Reporting):
    """One chat that reads the results and writes architectures at once, without a strategy in between."""

    OWN = "Your own, from what the results so far have shown."

    def ask(self, n: int) -> list[Candidate]:
        """All that one answer holds."""
        if not self._allowed.any_left(n):
            return []
        self._round += 1
        self._calls = 0
        results = self._reported()
        request = self._text("generator_user", strategy=self.OWN, request=self._request())
        prompt = (results if self._results or self._round > 1 else "") + request
        self._chat[0] = ("system", self._text("generator_system"))
        (answer,) = self._call("generator", prompt, 1, ARCHITECTURES, history=tuple(self._chat))
        self._chat += [("user", prompt), ("assistant", answer.text)]
        self._results = []
        return paper_answers.read(self._space, answer.text)


KINDS: dict[str, type[Paper]] = {
    "no-past": NoPast,
    "stateful-generator": StatefulGenerator,
    "forgetful-navigator": ForgetfulNavigator,
    "one-model": OneModel,
    PICKS: PickInWords,
}


def create(name: str, problem: Problem, engine: Engine, **options: Any) -> Paper:
    """The search with the changed part; UserError where there is none of the name, or it can't be decoded so."""
    if name not in KINDS:
        raise UserError(f"variant {name!r} is not one of the preset paper; legal there: {', '.join(KINDS)}")
    if name == "one-model" and options.get("decoding", "free") not in ("free", "json"):
        raise UserError(
            f"variant one-model writes many architectures at once, which --decoding {options['decoding']} does not "
            "allow; use free or json"
        )
    if name == PICKS and options.get("prompts") is not None:
        raise UserError(f"variant {PICKS} asks in words of its own, so that prompts mean nothing; leave them out")
    return paper.create(problem, engine, kind=KINDS[name], **options)
