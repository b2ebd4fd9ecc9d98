"""The values and Protocols that every stage shares: the page to read first.

Standard library only. A search is a conversation between four things that know nothing of each other:

- a `SearchSpace` says what an `Architecture` is;
- an `Evaluator` turns architectures into `Evaluation`s;
- an `Optimizer` proposes `Candidate`s (`ask`) and hears what became of them (`tell`);
- `collm_nas.runner` is the one loop between them.

The language models enter as an `Engine`, which only the Coordinator (one more `Optimizer`) talks to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Encoding = Literal["native", "compact"]
"""`native` is the official form that users know; `compact` is two characters a variable (see `spaces.base`)."""

DecodingMode = Literal["free", "json", "legal", "affordable", "new"]
DECODING_MODES: tuple[DecodingMode, ...] = ("free", "json", "legal", "affordable", "new")
"""Each mode adds one guarantee to the one before: parsed leniently; well-formed; legal and canonical; within the
cost caps; not visited before."""

Role = Literal["navigator", "generator"]

Turn = tuple[Literal["system", "user", "assistant"], str]
"""One message of a chat: who speaks, and what."""


class UserError(ValueError):
    """What a user can mend: one sentence that says what is wrong, where, what is legal. The shell exits with 2."""


# --- what is searched -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variable:
    """One categorical decision.

    `active_if` lists conditions that must all hold: (position of an earlier variable, positions of its choices under
    which this one is active). A variable whose parent is inactive is inactive too.
    """

    name: str
    choices: tuple[str, ...]
    active_if: tuple[tuple[int, frozenset[int]], ...] = ()


@dataclass(frozen=True, slots=True)
class Architecture:
    """A canonical point of a space: the position of the choice taken by each variable, 0 where a variable is inactive.

    Two spellings of one network are one `Architecture`; only a space makes them (`parse`, `make`, `sample`).
    """

    space: str
    choices: tuple[int, ...]


@runtime_checkable
class SearchSpace(Protocol):
    """Ordered categorical variables, with encodings, a canonical form, a cost model and constraint text."""

    name: str
    description: str
    variables: tuple[Variable, ...]
    edges: tuple[tuple[int, int], ...] | None
    """Where the space is a cell: from and to node of every variable, whose choices are operations (`none`: no edge);
    node 0 is the input, the last node the output."""

    @property
    def size(self) -> int:
        """Number of distinct legal architectures."""

    def make(self, choices: Sequence[int]) -> Architecture:
        """The canonical architecture for these choice positions; ValueError if illegal."""

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture that a text (or the official Python object) spells; ValueError names variable and legal
        values."""

    def format(self, arch: Architecture, encoding: Encoding = "native") -> str:
        """The canonical spelling; `parse(format(a)) == a`."""

    def active(self, choices: Sequence[int]) -> tuple[bool, ...]:
        """Which variables are active under these choices."""

    def legal_next(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Choices that the next variable may take after `prefix` so that a legal architecture remains; (0,) if
        inactive."""

    def count(self, prefix: Sequence[int]) -> int:
        """Number of legal architectures that begin with these choices."""

    def sample(self, rng: Any) -> Architecture:
        """A random legal architecture; `rng` has `random()` (both `random.Random` and NumPy's Generator do)."""

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All legal architectures that differ in the choice of one variable, without repeats."""

    def all(self) -> Iterator[Architecture]:
        """Every legal architecture, in the space's own order."""

    def cost(self, arch: Architecture) -> dict[str, float]:
        """Costs known without evaluation: `flops` (multiply-adds), `params`; empty where the space has no cost
        model."""

    def regex(self, encoding: Encoding) -> str:
        """A regular expression for exactly the canonical spellings (of the whole space, where a table covers a
        part)."""


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one query brought. Higher `fitness` is better; `costs`: `flops` in multiply-adds, `params`, `latency` in
    ms; `error`: the standard error of the fitness where it is an estimate, in its units."""

    fitness: float
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    source: str = ""
    error: float | None = None


class EvaluationError(Exception):
    """Why an evaluator could not score an architecture, in one line: recorded, and the search goes on.

    `everywhere`: it looks like a mistake that every architecture would meet (a command that is not there); before the
    first evaluation that succeeds it ends the search at once."""

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.everywhere = everywhere


@dataclass(frozen=True, slots=True)
class Failure:
    """What an evaluation came to that brought no fitness: why, in one line, and after how many seconds; `everywhere`:
    as of `EvaluationError`."""

    reason: str
    seconds: float = 0.0
    everywhere: bool = False


Outcome = Evaluation | Failure
"""What an evaluation comes to."""


class Evaluator(Protocol):
    """Scores architectures. `report` is read once, for the chosen architecture only.

    What some also have: `latency` (true: `costs` are measured, and kept in the journal from the first measurement on);
    `bounded` (true: `evaluate` takes `best=`, the best fitness so far or None, to stop early on what is hopeless).
    """

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """One evaluation an architecture, in order. What it raises is recorded as a failure of the architecture."""

    def costs(self, arch: Architecture) -> dict[str, float]:
        """Costs that this evaluator knows before evaluation (a table's cost columns), else empty."""

    def report(self, arch: Architecture) -> dict[str, float]:
        """The columns the search must not see, for the winner."""

    def protocol(self) -> dict[str, Any]:
        """JSON values that identify the measurement: source, `sha256`, `fitness`, `report`, `source_hashes`."""


# --- who proposes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """One emitted proposal, before any check. `arch` is None where the text spells no legal architecture."""

    arch: Architecture | None
    proposer: str
    text: str = ""
    problem: str = ""


Verdict = Literal["evaluated", "failed", "invalid", "repeated", "over-cap", "surplus", "pending"]
"""What the runner made of a candidate; `failed`: its evaluation brought no fitness, and it is not evaluated again;
`surplus`: legal and new, but more than the batch or budget had room for; `pending`: accepted, and its evaluation is
still to come while more are asked for (it may be told so more than once)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A candidate and what became of it; `evaluation` is present where the verdict is `evaluated`.

    `feasible` is False for a candidate over a cap (evaluated or not)."""

    candidate: Candidate
    verdict: Verdict
    evaluation: Evaluation | None = None
    feasible: bool = True


@dataclass(frozen=True, slots=True)
class Caps:
    """Upper bounds on costs: `{"flops": 3e8}`; `reject` candidates over them or `evaluate` them all the same."""

    limits: Mapping[str, float] = field(default_factory=dict)
    over: Literal["reject", "evaluate"] = "reject"

    def allow(self, costs: Mapping[str, float]) -> bool:
        """Whether these costs are within every cap."""
        return all(costs[name] <= limit for name, limit in self.limits.items())


class Optimizer(Protocol):
    """Ask and tell. Given equal seeds and equal tells, the asks are equal (also in another process).

    Built by `create(problem: Problem, **options) -> Optimizer`, the one public function of each file in
    `collm_nas/optimizers/`, besides `OPTIONS`-free helpers.
    """

    def ask(self, n: int) -> list[Candidate]:
        """At least one candidate, so chosen that up to `n` of them are legal and new; empty only if there is none left.

        May hold more than `n`: what a language model emitted in vain (illegal, repeated) is reported too, and counted.
        """

    def tell(self, observations: Sequence[Observation]) -> None:
        """What became of them, and of candidates that others proposed (`--init`, `--start-from`).

        An architecture may be told again with another fitness, which then counts (`collm_nas.weighted`), unless the
        optimiser knows several objectives by itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What an optimiser may know: space, caps, the costs function (space's, else the table's), seed, budget,
    objectives."""

    space: SearchSpace
    seed: int
    budget: int
    caps: Caps = field(default_factory=Caps)
    costs: Any = None
    """`Callable[[Architecture], Mapping[str, float]]`, or None where no costs are known."""
    objectives: tuple[str, ...] = ("fitness",)
    """`fitness`, which is maximised, then costs that are minimised beside it; evaluations then have these costs."""


# --- language models --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint as data, so that any engine can take it: a regular expression, a JSON schema (text) or a grammar."""

    kind: Literal["regex", "json", "lark", "gbnf"]
    text: str


class TextMask(Protocol):
    """What constraint text cannot say (caps, visited ones): how many strings remain allowed, by prefix.

    `inference` turns it into a logits processor for any tokenizer; implementations: `collm_nas.constraints`.
    """

    def count(self, prefix: str) -> int:
        """Number of allowed strings that begin with `prefix`. A whole string ends with `END`."""

    def strings(self, most: int) -> list[str] | None:
        """All allowed strings, without `END`; None where there are more than `most`."""


END = "\0"
"""Terminator used by `TextMask.count` to tell the string `1` from the prefix of `10`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model: `n` completions of one prompt, by the adapter of `role`. Equal requests, equal answers."""

    role: Role
    prompt: str
    n: int
    seed: int
    temperature: float
    max_tokens: int
    constraint: Constraint | None = None
    mask: TextMask | None = None
    """With a mask the `n` completions are also distinct; fewer come back where fewer are left."""
    history: tuple[Turn, ...] = ()
    """The chat before the prompt, which is then the user's next message."""
    reasoning: int = 0
    """At most so many tokens of free thinking, once for all `n` completions, before constraint and mask apply."""
    top_p: float = 1.0
    """At each token draw from the likeliest ones that together hold this share; of which law: `inference.nucleus`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `tokens` are completion tokens; `prompt_tokens` and `seconds` are this completion's share of the
    call.

    `finished` is False where the token limit cut it. What follows is known of constrained answers alone."""

    text: str
    tokens: int
    prompt_tokens: int
    seconds: float
    finished: bool = True
    logp: float | None = None
    """Log-probability under the model's own law at the request's temperature (at 1 where that is 0), end included.
    It is the whole law's, whatever the request's top-p; so are the next two."""
    logp_masked: float | None = None
    """The same where every token is drawn among those that constraint and mask allow."""
    removed: tuple[float, ...] = ()
    """For every token, and for the end, the probability that constraint and mask took from the model there."""
    exact: bool | None = None
    """Whether it was drawn from the model's law conditioned on what is allowed; None where the engine doesn't say."""
    thinking: str = ""
    """What the model wrote to itself before the answers of this call; in the first of them alone."""
    thinking_tokens: int = 0
    forgotten: int = 0
    """Oldest turns of the chat that were left out, since the model's context has no room for them; of the call."""


class Engine(Protocol):
    """Runs one base model with an adapter per role."""

    def generate(self, request: Request) -> list[Completion]:
        """`request.n` completions (fewer where a mask leaves fewer)."""

    def describe(self) -> dict[str, Any]:
        """JSON values for the protocol line: engine, model folder's hash, digest version, encoding, trained-on
        hashes."""
