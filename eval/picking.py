"""The protocol of LM-Searcher on our models (`collm:variant=pick-of-10`): they write nothing, and pick the best of ten.

Each candidate is one of ten random ones, none of them evaluated before nor offered twice in a batch. A tuned model
picks by its own law: the one that its Navigator finds likeliest as the first anchor after the digest, which is where it
was taught to say that the best lies. It draws nothing and asks no Generator, so that `temperature`, `strategies` and
`decoding` mean nothing here. A chat model (`preset=paper`) is shown the ten and answers with a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from collm_nas.api import Architecture, Candidate, DecodingMode, Engine, Observation, Problem
from collm_nas.coordinator import Coordinator
from collm_nas.memory import Memory
from collm_nas.paper import Paper
from collm_nas.prompts import ANCHOR_TOKEN
from eval.likelihood import logps

NAME = "pick-of-10"
OFFERED = 10


class Offers:
    """Random new architectures (within caps that reject), ten for each that is wanted."""

    def __init__(self, problem: Problem) -> None:
        self._memory = Memory(problem, NAME)
        self.tell = self._memory.tell

    def draw(self, n: int) -> Iterator[list[Architecture]]:
        """`n` offers, none with one of another: the last of a small space hold fewer than ten, or are left out."""
        drawn: list[Architecture] = []
        for _ in range(n):
            offer: list[Architecture] = []
            while len(offer) < OFFERED and (arch := self._memory.new_random(drawn)) is not None:
                offer.append(arch)
                drawn.append(arch)
            if not offer:
                return
            yield offer


class PickOfTen(Coordinator):
    """A Navigator that picks instead of writing; it has no past strategies, the digest is else the Coordinator's."""

    def __init__(self, problem: Problem, engine: Engine, *args: Any) -> None:
        super().__init__(problem, engine, *args)
        self.space.check_compact()
        self._asked, self._offers = engine, Offers(problem)

    def propose(self, n: int) -> list[Candidate]:
        """The likeliest of each offer; all of a batch after the same digest."""
        digest = self.digest()
        return [self._pick(digest, offer, self.seed("navigator", i)) for i, offer in enumerate(self._offers.draw(n))]

    def _pick(self, digest: str, offer: list[Architecture], seed: int) -> Candidate:
        texts = [ANCHOR_TOKEN + self.space.format(arch, "compact") for arch in offer]
        worth = logps(self._asked, "navigator", digest, texts, seed, opening=True)
        arch = offer[worth.index(max(worth))]
        return Candidate(arch, "model", self.space.format(arch, self.encoding))

    def tell(self, observations: Sequence[Observation]) -> None:
        """Nothing that was evaluated or refused is offered again; what was offered in vain is."""
        super().tell(observations)
        self._offers.tell(observations)


# --- in words ---------------------------------------------------------------------------------------------------------

QUESTION = """{results}Here are {n} candidates that were not evaluated yet, numbered:

{listed}

Which of them do you expect to have the highest fitness? Answer with its number, and nothing else."""
ANSWER = 256
"""Most tokens of an answer."""


class Reporting(Paper):
    """A chat whose own prompts say what the last round brought."""

    def _reported(self) -> str:
        return f"Results of the last round, best first:\n{self._told()}\n\nBest so far: {self._best_told()}\n\n"


class PickInWords(Reporting):
    """One chat that reads the results of each round, and answers each offer with a number, freely in every decoding
    mode: what is offered is legal and new."""

    def __init__(self, problem: Problem, engine: Engine, _: DecodingMode, *args: Any) -> None:
        super().__init__(problem, engine, "free", *args)
        self._chat = [("system", f"You are an expert in neural architectures.\n\n{self.knowledge}")]
        self._offers = Offers(problem)

    def ask(self, n: int) -> list[Candidate]:
        """One of each offer; an answer that names none counts as an illegal candidate."""
        self._round += 1
        self._calls = 0
        return [self._pick(offer) for offer in self._offers.draw(n)]

    def _pick(self, offer: list[Architecture]) -> Candidate:
        listed = [self._space.format(arch) for arch in offer]
        lines = "\n".join(f"{i}. {text}" for i, text in enumerate(listed, start=1))
        prompt = QUESTION.format(results=self._heard(), n=len(offer), listed=lines)
        (answer,) = self._call("navigator", prompt, 1, ANSWER, history=tuple(self._chat))
        self._chat += [("user", prompt), ("assistant", answer.text)]
        place = read_number(answer.text, len(offer))
        if place is None:
            return Candidate(None, "model", answer.text[:ANSWER], f"names none of the {len(offer)} numbers")
        return Candidate(offer[place], "model", listed[place])

    def _heard(self) -> str:
        """Mission and results, in the first message of a round that follows some."""
        if not self._results:
            return f"{self._known['mission']}\n\n" if len(self._chat) == 1 else ""
        told = self._reported()
        self._results = []
        return f"{told}{self._known['mission']}\n\n"

    def tell(self, observations: Sequence[Observation]) -> None:
        """Nothing that was evaluated or refused is offered again; what was offered in vain is."""
        super().tell(observations)
        self._offers.tell(observations)


def read_number(text: str, n: int) -> int | None:
    """The place (from 0) that an answer names by a number of 1..n: where it begins with one this, else its last one."""
    numbers = re.findall(r"^\W*(\d+)\b", text) or re.findall(r"\b\d+\b", text)[-1:]
    return int(numbers[0]) - 1 if numbers and 1 <= int(numbers[0]) <= n else None
