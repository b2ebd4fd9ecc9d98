"""Algorithm 1 of arXiv 2509.26037v2 as printed, by a chat model as it is: no tuning, no digest, words alone.

The Navigator is a growing chat: each of its messages holds the results of one round and the best so far, each of its
answers is a strategy, headed Markdown that is used whole. The Generator sees its task and that strategy, and writes 10
to 20 architectures in one answer. What is illegal, or was evaluated before, is dropped; neither model hears of it.

The prompts (`paper_prompts/`, in our words after the parts that the paper's appendix E has) name no benchmark, and
their one example is random: the paper's own lies two changes from the optimum.

Where a decoding mode gives a grammar for one architecture, the Generator is asked for one, as often as needed.
"""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from random import Random

from collm_nas import paper_answers
from collm_nas.allowed import Allowed
from collm_nas.api import (
    Candidate,
    Completion,
    Constraint,
    DecodingMode,
    Engine,
    Observation,
    Problem,
    Request,
    Role,
    Turn,
    UserError,
)
from collm_nas.spaces.base import CategoricalSpace

FEWEST, MOST = 10, 20
"""Architectures that one answer of the Generator is asked for."""

STRATEGY, ARCHITECTURES = 1024, 2048
"""Most tokens of a strategy, and of a Generator's answer."""

TEXTS: dict[str, tuple[str, ...]] = {
    "navigator_system": ("mission", "knowledge"),
    "navigator_first": ("mission", "knowledge"),
    "navigator_next": ("results", "best", "mission"),
    "generator_system": ("mission", "knowledge"),
    "generator_user": ("strategy", "request"),
}
"""The texts, each a file `NAME.md`, and the placeholders that it may use (`$name`)."""

_ONE_EACH = ("legal", "affordable", "new")  # modes whose grammar is of one architecture


class Paper:
    """Two chats on one engine, behind `api.Optimizer`."""

    def __init__(
        self,
        problem: Problem,
        engine: Engine,
        decoding: DecodingMode,
        temperature: float,
        reasoning: int,
        texts: Mapping[str, string.Template],
        target: float | None,
        top_p: float = 1.0,
    ) -> None:
        self._problem = problem
        self._space: CategoricalSpace = problem.space  # type: ignore[assignment]
        self._engine = engine
        self._decoding = decoding
        self._temperature = temperature
        self._top_p = top_p
        self._reasoning = reasoning
        self._texts = texts
        self._allowed = Allowed(problem, decoding, "native")
        self._known = {"mission": self._mission(target), "knowledge": self._knowledge()}
        self._chat: list[Turn] = [("system", self._text("navigator_system"))]
        self._results: list[Observation] = []
        self._best: Observation | None = None
        self._round = 0
        self._calls = 0

    @property
    def knowledge(self) -> str:
        """What the prompts say of the space."""
        return self._known["knowledge"]

    # --- ask ----------------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Candidate]:
        """A strategy, and all that the Generator makes of it."""
        if not self._allowed.any_left(n):
            return []
        self._round += 1
        self._calls = 0
        return self._generate(self._navigate(), n)

    def _navigate(self) -> str:
        first = self._round == 1 and not self._results
        name = "navigator_first" if first else "navigator_next"
        prompt = self._text(name, results=self._told(), best=self._best_told())
        (answer,) = self._call("navigator", prompt, 1, STRATEGY, history=tuple(self._chat))
        self._chat += [("user", prompt), ("assistant", answer.text)]
        self._results = []
        return answer.text

    def _generate(self, strategy: str, n: int) -> list[Candidate]:
        longest = len(self._space.format(next(self._space.all())))
        one_each = self._decoding in _ONE_EACH
        request = "Write one architecture." if one_each else self._request()
        prompt = self._text("generator_user", strategy=strategy, request=request)
        history: tuple[Turn, ...] = (("system", self._text("generator_system")),)
        limit = min(ARCHITECTURES, 2 * longest if one_each else MOST * (longest + 8))
        answers = self._call("generator", prompt, n if one_each else 1, limit, history=history)
        return [candidate for answer in answers for candidate in paper_answers.read(self._space, answer.text)]

    def _request(self) -> str:
        form = "as a JSON list of strings" if self._decoding == "json" else "one per line, and nothing else"
        return f"Write {FEWEST} to {MOST} different, complete and valid architectures, {form}. Do not repeat any."

    def _call(self, role: Role, prompt: str, n: int, max_tokens: int, history: tuple[Turn, ...]) -> list[Completion]:
        generator = role == "generator"
        request = Request(
            role=role,
            prompt=prompt,
            n=n,
            seed=zlib.crc32(f"{self._problem.seed}/{self._round}/{role}/{self._calls}".encode()),
            temperature=self._temperature,
            max_tokens=max_tokens,
            constraint=self._constraint() if generator else None,
            mask=self._allowed.mask if generator else None,
            history=history,
            reasoning=self._reasoning,
            top_p=self._top_p,
        )
        self._calls += 1
        return self._engine.generate(request)

    def _constraint(self) -> Constraint | None:
        if self._decoding == "free":
            return None
        if self._decoding == "json":
            item = {"type": "string", "minLength": 1, "maxLength": 2 * len(self._space.format(next(self._space.all())))}
            schema = {"type": "array", "items": item, "minItems": FEWEST, "maxItems": MOST}
            return Constraint("json", json.dumps(schema))
        return self._allowed.constraint

    # --- what the models are told -------------------------------------------------------------------------------------

    def _text(self, name: str, **values: str) -> str:
        return self._texts[name].substitute({**self._known, **values}).strip()

    def _mission(self, target: float | None) -> str:
        goal = "as high a fitness as possible" if target is None else f"a fitness above {target:g}"
        limits = [f"at most {limit:,.6g} {cost}" for cost, limit in self._problem.caps.limits.items()]
        if not limits:
            return f"Find an architecture of {goal}."
        return (
            f"Find an architecture of {goal} with {' and '.join(limits)}. Architectures far below that cap are usually "
            "weak: use what it allows."
        )

    def _knowledge(self) -> str:
        rng = Random(f"example/{self._problem.seed}")
        lines = [self._space.description or "A space of neural architectures.", "", "Variables and their legal values:"]
        lines += [f"- {self._variable(i)}" for i in range(len(self._space.variables))]
        lines += ["", "An architecture is written exactly in this form (an arbitrary example):"]
        return "\n".join([*lines, self._space.format(self._space.sample(rng))])

    def _variable(self, i: int) -> str:
        variable = self._space.variables[i]
        told = f"{variable.name}: {', '.join(variable.choices)}"
        for parent, allowed in variable.active_if:
            other = self._space.variables[parent]
            told += f" (only where {other.name} is {' or '.join(other.choices[c] for c in sorted(allowed))})"
        return told

    def _told(self) -> str:
        """The round's results, a line each."""
        ranked = sorted(self._results, key=_fitness, reverse=True)
        return "\n".join(self._line(seen) for seen in ranked) or "none: no new architecture could be evaluated"

    def _best_told(self) -> str:
        return "none yet" if self._best is None else self._line(self._best)

    def _line(self, seen: Observation) -> str:
        assert seen.candidate.arch is not None and seen.evaluation is not None
        costs = "".join(f", {name} {value:,.6g}" for name, value in seen.evaluation.costs.items())
        over = "" if seen.feasible else " (over the cap)"
        return f"{self._space.format(seen.candidate.arch)} : fitness {seen.evaluation.fitness:.6g}{costs}{over}"

    # --- tell ---------------------------------------------------------------------------------------------------------

    def tell(self, observations: Sequence[Observation]) -> None:
        """Keep what was evaluated for the Navigator's next message; nothing else is ever told."""
        for seen in observations:
            if seen.candidate.arch is None:
                continue
            if seen.verdict != "surplus":
                self._allowed.exclude(seen.candidate.arch)
            if seen.evaluation is not None:
                self._results.append(seen)
                if seen.feasible and (self._best is None or _fitness(seen) > _fitness(self._best)):
                    self._best = seen


def _fitness(seen: Observation) -> float:
    assert seen.evaluation is not None
    return seen.evaluation.fitness


# --- texts ------------------------------------------------------------------------------------------------------------


def texts(folder: Path | None) -> dict[str, string.Template]:
    """The texts of the package, those in the folder in their place; UserError where one of these can't be used."""
    own = resources.files("collm_nas").joinpath("paper_prompts")
    found = {name: own.joinpath(f"{name}.md").read_text(encoding="utf-8") for name in TEXTS}
    if folder is not None:
        found |= _given(folder)
    return {name: string.Template(text) for name, text in found.items()}


def _given(folder: Path) -> dict[str, str]:
    legal = ", ".join(f"{name}.md" for name in TEXTS)
    if not folder.is_dir():
        raise UserError(f"--prompts {folder} is no folder; give one that holds some of {legal}")
    given: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix != ".md" or path.stem not in TEXTS:
            raise UserError(f"--prompts {folder} holds {path.name!r}, which is none of {legal}; rename or remove it")
        try:
            given[path.stem] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"--prompts: {path} can't be read as UTF-8 text") from None
        _check(path, given[path.stem])
    if not given:
        raise UserError(f"--prompts {folder} holds no text; give some of {legal}")
    return given


def _check(path: Path, text: str) -> None:
    template, legal = string.Template(text), TEXTS[path.stem]
    may = ", ".join(f"${name}" for name in legal)
    if not template.is_valid():
        raise UserError(f"--prompts: {path} has a $ that begins no placeholder; write $$ for a dollar, or one of {may}")
    unknown = sorted(set(template.get_identifiers()) - set(legal))
    if unknown:
        raise UserError(f"--prompts: {path} uses ${unknown[0]}, which is not known there; legal: {may}")


def create(
    problem: Problem,
    engine: Engine,
    decoding: DecodingMode = "free",
    temperature: float = 0.6,
    reasoning: int = 0,
    prompts: Path | None = None,
    target: float | None = None,
    top_p: float = 1.0,
    kind: type[Paper] = Paper,
) -> Paper:
    """The paper's search; `prompts`: a folder with other texts for some of its prompts, `target`: told to the models.
    `kind`: one of which a part is another.

    Raises UserError where a text can't be used.
    """
    return kind(problem, engine, decoding, temperature, reasoning, texts(prompts), target, top_p)
