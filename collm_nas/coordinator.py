"""The Coordinator (Algorithm 1 of arXiv 2509.26037): Navigator writes strategies, Generator turns them into candidates.

To the runner it is one more optimiser with `ask` and `tell`. It keeps the history and the Navigator's last strategies,
writes the digest, says what a decoding mode constrains, and reads the answers. The Generator sees a strategy alone.

A strategy is one sample of where the best may lie. The paper makes a whole round of candidates from one; here each
candidate has its own unless `strategies` says otherwise, so that one poor guess costs one evaluation (docs/LOG.md).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import numpy as np

from collm_nas import prompts, strategy
from collm_nas.allowed import Allowed
from collm_nas.api import (
    Architecture,
    Candidate,
    Completion,
    Constraint,
    DecodingMode,
    Encoding,
    Engine,
    Observation,
    Optimizer,
    Problem,
    Request,
    Role,
    UserError,
)
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Strategy

GENERATOR_CALLS = 3  # per ask, where a mode lets illegal or repeated candidates through
_MARGIN = 8  # tokens beyond the longest legal answer, so that free text is cut soon but not early


@dataclass(frozen=True, slots=True)
class History:
    """What was evaluated, in the order in which it was first told."""

    archs: Sequence[Architecture]
    values: Sequence[float]
    feasible: Sequence[bool]

    def best(self, n: int) -> list[Architecture]:
        """The `n` of the highest values, over a cap or not; of equals the later one first."""
        ranked = sorted(zip(self.values, range(len(self.values)), strict=True), reverse=True)
        return [self.archs[i] for _, i in ranked[:n]]

    def last(self, n: int) -> History:
        """The latest `n` of it."""
        return History(self.archs[-n:], self.values[-n:], self.feasible[-n:])


class Coordinator:
    """Two roles on one engine, behind `api.Optimizer`.

    A search with one part changed is a subclass (`eval/variants.py`). It may override the methods under *seams* and use
    them, `space`, `encoding` and `plans`; what begins with an underscore is none of its business.
    """

    def __init__(
        self,
        problem: Problem,
        engine: Engine,
        decoding: DecodingMode,
        temperature: float,
        encoding: Encoding,
        strategies: int | None,
        reasoning: int = 0,
        hint: prompts.Hint | None = None,
        top_p: float = 1.0,
        advisor: Optimizer | None = None,
    ) -> None:
        self._problem = problem
        self.space: CategoricalSpace = problem.space  # type: ignore[assignment]
        self.encoding = encoding
        self.plans: list[Strategy] = []
        """The strategies of the round, until what they brought is told."""
        self._engine = engine
        self._decoding = decoding
        self._temperature = temperature
        self._strategies = strategies
        self._reasoning = reasoning
        self._top_p = top_p
        self._hint = hint
        self._advisor = advisor
        self._digest_version = engine.describe().get("digest_version", prompts.DIGEST_VERSION)
        self._round = 0
        self._calls = 0
        self._archs: list[Architecture] = []
        self._place: dict[Architecture, int] = {}
        self._values: list[float] = []
        self._feasible: list[bool] = []
        self._past: list[prompts.Tried] = []
        self._plan_of: dict[Architecture, Strategy] = {}
        self._late: dict[Architecture, Strategy] = {}
        """The same of earlier rounds, for what was pending when the present one began."""
        self._allowed = Allowed(problem, decoding, encoding)
        self._navigator_constraint = self._constraint("navigator")
        self._generator_constraint = self._constraint("generator")
        self._pressure = prompts.pressure(self.space, problem.caps, problem.costs) if problem.caps.limits else None

    # --- ask ----------------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Candidate]:
        """Strategies, then candidates from them until `n` are new; what the model emits in vain is returned as well."""
        if not self._allowed.any_left(n):
            return []
        self._round += 1
        self._calls = 0
        self._plan_of = {}
        return self.propose(n)

    # --- seams: what a variant may override ---------------------------------------------------------------------------

    def propose(self, n: int) -> list[Candidate]:
        """The candidates of a round that has just begun, `n` of them new where that can be had."""
        self.plans = self.navigate(min(n, self._strategies or n))
        candidates: list[Candidate] = []
        for _ in range(GENERATOR_CALLS):
            batch = self.generate(n - len(self._plan_of))
            candidates += batch
            if len(self._plan_of) >= n or not batch:
                break
        return candidates

    def navigate(self, count: int) -> list[Strategy]:
        """So many strategies to make the round from."""
        return [self._plan(answer.text) for answer in self.answers("navigator", self.digest(), count)]

    def shown(self) -> History:
        """What the digest covers: everything."""
        return self.history

    def past(self) -> Sequence[prompts.Tried]:
        """The earlier strategies that the digest tells of, with what each brought."""
        return self._past

    def generate(self, n: int) -> list[Candidate]:
        """`n` candidates, shared out evenly among the strategies in their order; equal strategies are asked once."""
        shares = Counter(self.plans[i % len(self.plans)] for i in range(n)) if self.plans else {}
        candidates = []
        for plan, share in shares.items():
            for answer in self.answers("generator", prompts.generator_prompt(self.space, plan), share):
                candidate = self._read(answer)
                candidates.append(candidate)
                if candidate.arch is not None:
                    self.credit(candidate.arch, plan)
        return candidates

    def answers(self, role: Role, prompt: str, n: int) -> list[Completion]:
        """One call of the engine, under the constraint of the role."""
        request = Request(
            role=role,
            prompt=prompt,
            n=n,
            seed=self.seed(role),
            temperature=self._temperature,
            max_tokens=self._longest(role),
            constraint=self._navigator_constraint if role == "navigator" else self._generator_constraint,
            mask=self._allowed.mask if role == "generator" else None,
            reasoning=self._reasoning,
            top_p=self._top_p,
        )
        self._calls += 1
        return self._engine.generate(request)

    # --- what a variant may use ---------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """All that was evaluated so far."""
        return History(self._archs, self._values, self._feasible)

    def digest(self) -> str:
        """What the Navigator reads."""
        shown = self.shown()
        return prompts.digest(
            self.space,
            shown.archs,
            shown.values,
            feasible=shown.feasible,
            past=self.past(),
            pressure=self._pressure,
            hint=self._hint,
            advice=self._advice(),
            version=self._digest_version,
        )

    def usable(self, arch: Architecture) -> bool:
        """Whether it would be evaluated: new and, where over-cap candidates are rejected, within the caps."""
        return self._allowed.usable(arch)

    def credit(self, arch: Architecture, plan: Strategy) -> None:
        """Count a candidate of the round as this strategy's, and as visited."""
        if self._allowed.usable(arch):
            self._plan_of[arch] = plan
        self._allowed.exclude(arch)

    def seed(self, purpose: str, call: int | None = None) -> int:
        """Of the run's seed, the round, a purpose and a number (None: of the calls so far in this round)."""
        number = self._calls if call is None else call
        return zlib.crc32(f"{self._problem.seed}/{self._round}/{purpose}/{number}".encode())

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _advice(self) -> list[Architecture]:
        """What the advisor would evaluate next; none before there is anything to go by."""
        if self._advisor is None or not self._archs:
            return []
        offered = self._advisor.ask(prompts.shown_advice(self.space))
        return [candidate.arch for candidate in offered if candidate.arch is not None]

    def _plan(self, text: str) -> Strategy:
        try:
            return Strategy.parse(text, self.space)
        except UserError as error:
            if self._navigator_constraint is not None:
                raise UserError(f"the engine does not keep to the constraint that it was given: {error}") from None
            # Search on with a strategy that prefers nothing.
            rng = Random(self.seed("anchors"))
            anchors = self.shown().best(strategy.ANCHORS)
            anchors += [self.space.sample(rng) for _ in range(strategy.ANCHORS - len(anchors))]
            return prompts.empty_strategy(self.space, anchors)

    def _read(self, answer: Completion) -> Candidate:
        """The answer in the spelling that was asked for (a native form may look like JSON), else leniently."""
        with suppress(UserError):
            return Candidate(self.space.parse(answer.text, self.encoding), "model", answer.text)
        try:
            return Candidate(prompts.parse_candidate(self.space, answer.text), "model", answer.text)
        except UserError as error:
            return Candidate(None, "model", answer.text, str(error))

    def _longest(self, role: Role) -> int:
        """Token limit: characters of the longest legal answer (a token is at least one), which no grammar exceeds."""
        sample = self.space.format(next(self.space.all()), self.encoding)
        if role == "generator":
            most = max(2 * len(self.space.variables), len(sample))
            return most + _MARGIN + (16 if self._decoding == "json" else 0)
        return strategy.longest(self.space) + _MARGIN

    def _constraint(self, role: Role) -> Constraint | None:
        if self._decoding == "free":
            return None
        if self._decoding == "json":
            return Constraint("json", prompts.json_schema(self.space)) if role == "generator" else None
        if role == "navigator":
            return Constraint("regex", strategy.regex(self.space))
        return self._allowed.constraint

    # --- tell ---------------------------------------------------------------------------------------------------------

    def tell(self, observations: Sequence[Observation]) -> None:
        """Remember what was evaluated, and what the strategy of the best candidate among it brought."""
        if self._advisor is not None:
            self._advisor.tell(observations)
        before = self._best()
        brought: tuple[float, Strategy] | None = None
        for seen in observations:
            arch = seen.candidate.arch
            if arch is None or seen.verdict == "surplus":
                continue
            self._allowed.exclude(arch)
            if seen.verdict == "pending":
                if arch in self._plan_of:
                    self._late[arch] = self._plan_of[arch]
                continue
            late = self._late.pop(arch, None)
            plan = self._plan_of.pop(arch, late)
            if seen.evaluation is not None:
                self._remember(arch, seen.evaluation.fitness, seen.feasible)
                if plan is not None and (brought is None or seen.evaluation.fitness > brought[0]):
                    brought = seen.evaluation.fitness, plan
        # A round that brought nothing is told too, once nothing of it is still to come.
        if brought or (self.plans and not self._plan_of):
            best = brought[1] if brought else self.plans[0]
            gain = prompts.gain_level(before, self._best(), float(np.std(self._values))) if self._values else 0
            self._past = [*self._past, prompts.Tried(best.anchors[0], best.roam, gain)][-prompts.PAST :]
            self.plans = []

    def _remember(self, arch: Architecture, value: float, feasible: bool) -> None:
        """A known architecture gets the newer value."""
        place = self._place.setdefault(arch, len(self._archs))
        if place < len(self._archs):
            self._values[place], self._feasible[place] = value, feasible
            return
        self._archs.append(arch)
        self._values.append(value)
        self._feasible.append(feasible)

    def _best(self) -> float:
        return max((v for v, ok in zip(self._values, self._feasible, strict=True) if ok), default=-np.inf)


def create(
    problem: Problem,
    engine: Engine,
    decoding: DecodingMode = "new",
    temperature: float = 1.0,
    encoding: Encoding = "compact",
    strategies: int | None = None,
    reasoning: int = 0,
    hint: prompts.Hint | None = None,
    kind: type[Coordinator] = Coordinator,
    top_p: float = 1.0,
    advisor: Optimizer | None = None,
) -> Coordinator:
    """The search by two language models; `strategies` a round (1 is the paper's way), None for one a candidate.
    `reasoning`: tokens of free thinking before each call's answers. `hint`: a user's advice, for the Navigator.
    `kind`: a Coordinator of which one part is another. `top_p`: each token among the likeliest that hold this share.
    `advisor`: a classical optimiser of the same problem, whose next candidates the Navigator reads; it hears of every
    evaluation.

    Raises UserError where the space is too large for the compact encoding, `strategies` is below 1, or the model never
    learnt to read hints or advice.
    """
    if strategies is not None and (type(strategies) is not int or strategies < 1):
        raise UserError(
            f"strategies {strategies!r} must be a whole number of at least 1, how many a round is made from"
        )
    if hint and engine.describe().get("digest_version", prompts.DIGEST_VERSION) < 2:
        raise UserError("--hint: this model reads digests of version 1, which have no hints; leave it out")
    if advisor is not None and not engine.describe().get("advice"):
        raise UserError("--advisor: this model never learnt to read advice; leave it out, or give another --model")
    return kind(problem, engine, decoding, temperature, encoding, strategies, reasoning, hint, top_p, advisor)
