"""History into messages, answers into values; used by `data_gen` and the Coordinator alike, so that the text a model is
trained on is the text it meets in search.

The *digest* (what the Navigator reads) is versioned: a model reads the version it was trained on, and one that is not
in `DIGEST_VERSIONS` is refused. Its parts, in order:

    <digest>   what a Gaussian process of main and pair effects believes of single changes of the best architecture:
               <o{level}> the size of its doubts, <b{level}> the weight of pairs and the noise; then for each rank
               <r{rank}>, each variable's choice of that rank by expected gain: evidence token <e{gain}{doubt}> (and
               <c{level}> under a cap), pair token; doubt 0 marks the best architecture's own choice. (Version 1 has
               the effects of a ridge regression and counts instead.)
    <cap><t{level}>          only under a cap: the share of architectures that fit, in sixteenths
    <hint>     only with one: of each variable that it speaks of, the choices that it is for (from version 2 on)
    <best>     the best distinct architectures, best first: pairs, <g{level}> = distance to the best in fitness; in
               version 3 about four times as many, so that what several changes do together can be read
    <advice>   only with an advisor: architectures that a classical optimiser would try next, in its order (not in 1)
    <past>     its own last three strategies, oldest first: first anchor, <roam{n}>, <gain{n}> = what it brought
    <nav>      the role

Shapes: M evaluations, D (variable, choice) pairs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from string import printable

import numpy as np

from collm_nas import evidence, surrogate
from collm_nas.api import Architecture, Caps, UserError
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS, CategoricalSpace
from collm_nas.strategy import ROAM_STEPS, SETTLED, Direction, Strategy

DIGEST_VERSION = 3
"""What is mined now."""
DIGEST_VERSIONS = (1, 2, 3)
"""What models may have been trained on."""
LEVELS = "0123456789abcdef"
DOUBTS = 6
GAINS = 6
PAST = 3
END_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN = "<end>", "<pad>", "<unk>"
NAVIGATOR_TOKEN, GENERATOR_TOKEN, ANCHOR_TOKEN, DIRECTIONS_TOKEN = "<nav>", "<gen>", "<a>", "<dir>"
TOKEN_PATTERN = r"<[^<>]+>|[a-zA-Z][0-9a-z]|[\s\S]"
"""How the embedded tokenizer cuts a text: marks, (variable, choice) pairs, single characters."""
_PAIR_BUDGET = 300  # (variable, choice) pairs shown; larger spaces show the best-supported choices of each variable
_BEST_BUDGET = 150  # tokens spent on the best architectures
_BEST_MOST, _BEST_LEAST = 12, 3
_LONG_BUDGET, _LONG_MOST, _LONG_ROOM = 450, 64, 830  # version 3: the same; and tokens of evidence and best together
_ADVICE_MOST = 8


def vocabulary() -> list[str]:
    """Every token of the embedded tokenizer, in order: specials, marks, evidence, all pairs, printable characters."""
    marks = [
        "<digest>",
        "<cap>",
        "<best>",
        "<past>",
        ANCHOR_TOKEN,
        DIRECTIONS_TOKEN,
        NAVIGATOR_TOKEN,
        GENERATOR_TOKEN,
        "<hint>",
        "<advice>",
    ]
    marks += [f"<{kind}{level}>" for kind in "gctobr" for level in LEVELS]
    marks += [f"<gain{n}>" for n in range(GAINS)] + [f"<roam{n}>" for n in range(ROAM_STEPS)]
    marks += [f"<why{n}>" for n in range(8)] + [f"<s{n}>" for n in range(len(SETTLED))]
    marks += [f"<e{level}{doubt}>" for level in LEVELS for doubt in range(DOUBTS)]
    pairs = [letter + choice for letter in LETTERS for choice in CHOICE_CHARS]
    characters = sorted(set(printable) - set("\r\x0b\x0c"))
    tokens = [PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, *marks, *pairs, *characters]
    return tokens + [f"<spare{n}>" for n in range(-len(tokens) % 64)]


def vocabulary_hash(ids: Mapping[str, int]) -> str:
    """SHA-256 of a tokenizer's tokens and ids: how an adapter's manifest names the tokenizer it was trained with."""
    return hashlib.sha256(json.dumps(dict(ids), sort_keys=True).encode()).hexdigest()


Hint = Mapping[int, frozenset[int]]
"""What somebody advises: by the number of a variable, the choices to take from."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One past strategy as the digest shows it: its first anchor, its roam, and the gain it brought (0 to 5)."""

    anchor: Architecture
    roam: int
    gain: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """The cap as the digest shows it: cost level of each (variable, choice) pair, and how many sixteenths of the
    space fit."""

    levels: tuple[int, ...]
    tightness: int


def level(value: float, scale: float, centre: float = 0.0) -> str:
    """A number as one of sixteen levels."""
    return LEVELS[int(min(15, max(0, round(centre + scale * value))))]


def gain_level(before: float, after: float, deviation: float) -> int:
    """What a round brought: 0 for no better best, else half standard deviations of the history, rounded up, at most
    5."""
    if not after > before:
        return 0
    steps = 2 * (after - before) / max(deviation, 1e-12)  # infinite for the very first best
    return max(1, math.ceil(min(steps, GAINS - 1)))


def shown_choices(
    space: CategoricalSpace, wanted_D: Sequence[float] | evidence.Floats | None = None
) -> list[list[int]]:
    """Which choices of each variable the digest lists: all, or in large spaces the most wanted ones."""
    sizes = [len(v.choices) for v in space.variables]
    if sum(sizes) <= _PAIR_BUDGET:
        return [list(range(k)) for k in sizes]
    room = max(2, _PAIR_BUDGET // len(sizes))
    starts = evidence.offsets(space)
    shown = []
    for start, k in zip(starts, sizes, strict=False):
        wanted = [0.0] * k if wanted_D is None else [float(wanted_D[start + c]) for c in range(k)]
        shown.append(sorted(sorted(range(k), key=lambda c: (-wanted[c], c))[:room]))
    return shown


def shown_best(space: CategoricalSpace, version: int, capped: bool) -> int:
    """How many of the best architectures the digest lists."""
    each = len(space.variables) + 1
    short = max(_BEST_LEAST, min(_BEST_MOST, _BEST_BUDGET // each))
    if version < 3:
        return short
    evidence_tokens = (3 if capped else 2) * sum(map(len, shown_choices(space)))
    return max(short, min(_LONG_MOST, min(_LONG_BUDGET, _LONG_ROOM - evidence_tokens) // each))


def shown_advice(space: CategoricalSpace) -> int:
    """How many architectures of an advisor the digest has room for."""
    return max(_BEST_LEAST, min(_ADVICE_MOST, _BEST_BUDGET // (len(space.variables) + 1)))


def digest(
    space: CategoricalSpace,
    archs: Sequence[Architecture],
    values: Sequence[float],
    *,
    feasible: Sequence[bool] | None = None,
    past: Sequence[Tried] = (),
    pressure: Pressure | None = None,
    hint: Hint | None = None,
    advice: Sequence[Architecture] = (),
    version: int = DIGEST_VERSION,
) -> str:
    """The Navigator's prompt after these evaluations (distinct architectures, any order), in this version. At most
    about 1,000 tokens, more with a hint on every variable."""
    keep = range(len(archs)) if feasible is None else [i for i, ok in enumerate(feasible) if ok]
    order = sorted(keep, key=lambda i: (-values[i], archs[i].choices))
    if version == 1:
        parts = ["<digest>", *_ridge_tokens(space, evidence.ridge(space, archs, values), pressure)]
    else:
        found = evidence.local(space, archs, values, archs[order[0]] if order else None)
        parts = ["<digest>", *_evidence_tokens(space, found, pressure)]
    if pressure is not None:
        parts.append(f"<cap><t{LEVELS[pressure.tightness]}>")
    if hint:
        wanted = (LETTERS[i] + CHOICE_CHARS[c] for i in sorted(hint) for c in sorted(hint[i]))
        parts.append("<hint>" + "".join(wanted))
    best = order[: shown_best(space, version, pressure is not None)]
    deviation = float(np.std(values)) if len(values) else 0.0
    parts.append("<best>")
    for i in best:
        gap = (values[best[0]] - values[i]) / deviation if deviation > 0 else 0.0
        near = level(gap, 5) if version == 1 else level(math.asinh(8 * gap), 4)
        parts.append(f"{space.format(archs[i], 'compact')}<g{near}>")
    if advice:
        parts.append("<advice>" + "".join(ANCHOR_TOKEN + space.format(arch, "compact") for arch in advice))
    parts.append("<past>")
    for tried in past[-PAST:]:
        parts.append(f"{space.format(tried.anchor, 'compact')}<roam{tried.roam}><gain{tried.gain}>")
    return "".join(parts) + NAVIGATOR_TOKEN


def _evidence_tokens(space: CategoricalSpace, found: evidence.Local, pressure: Pressure | None) -> list[str]:
    """Version 2: how sure the beliefs are, then gain and doubt of every change."""
    columns = []
    for i, choices in enumerate(shown_choices(space, _wanted(found))):
        column = []
        for c in choices:
            at = found.offsets[i] + c
            # Rounded, so that the last bit of another machine's arithmetic changes no order.
            column.append((-round(found.mean_D[at] / found.unit, 5), c, _gain_and_doubt(found, at)))
        columns.append([(mark, c) for _, c, mark in sorted(column)])
    pairs, noise = found.fitted.pair_share, found.fitted.noise
    kind = 3 * surrogate.PAIR_SHARES.index(pairs) + max(0, surrogate.NOISES.index(noise) - 1)
    size = level(math.log2(max(found.unit, 1e-6)), 3, 12)
    return [f"<o{size}><b{LEVELS[kind]}>", *_by_rank(columns, pressure, found.offsets)]


def _wanted(found: evidence.Local) -> evidence.Floats:
    """Expected gains, in which nothing comes before the best architecture's own choices."""
    return np.where(found.sd_D > 0, np.round(found.mean_D / found.unit, 5), np.inf)


def _gain_and_doubt(found: evidence.Local, at: int) -> str:
    """Both in units of the median doubt, on scales that are finer near zero and near one."""
    gain = level(math.asinh(found.mean_D[at] / found.unit), 3, 10)
    ratio = found.sd_D[at] / found.unit
    doubt = 0 if ratio < 1e-6 else min(DOUBTS - 1, max(1, 3 + round(2 * math.log2(ratio))))
    return f"<e{gain}{doubt}>"


def _ridge_tokens(space: CategoricalSpace, fit: evidence.Ridge, pressure: Pressure | None) -> list[str]:
    """Version 1: effect and count of every choice."""
    # Single effects shrink as variables are added; levels keep their meaning if the step shrinks with them.
    step = 5.0 * math.sqrt(max(1.0, len(space.variables) / 8))
    columns = []
    for i, choices in enumerate(shown_choices(space, fit.counts_D.astype(float))):
        column = []
        for c in choices:
            at = fit.offsets[i] + c
            count = min(DOUBTS - 1, (1 + int(fit.counts_D[at])).bit_length() - 1)
            column.append((-LEVELS.index(level(fit.mean_D[at], step, 8)), -count, c))
        columns.append([(f"<e{LEVELS[-height]}{-count}>", c) for height, count, c in sorted(column)])
    return _by_rank(columns, pressure, fit.offsets)


def _by_rank(
    columns: Sequence[Sequence[tuple[str, int]]], pressure: Pressure | None, starts: tuple[int, ...]
) -> list[str]:
    """Evidence rank by rank: first the most promising choice of every variable, then every second one, and so on.

    Each line then reads like an architecture, so that a small model can follow it as it follows the best ones found;
    it learned to use the same evidence listed variable by variable more slowly (docs/LOG.md).
    """
    tokens = []
    for rank in range(max(map(len, columns))):
        tokens.append(f"<r{LEVELS[min(15, rank)]}>")
        for i, column in enumerate(columns):
            if rank < len(column):
                mark, c = column[rank]
                dear = f"<c{LEVELS[pressure.levels[starts[i] + c]]}>" if pressure is not None else ""
                tokens.append(f"{mark}{dear}{LETTERS[i]}{CHOICE_CHARS[c]}")
    return tokens


def pressure(
    space: CategoricalSpace, caps: Caps, costs: Callable[[Architecture], Mapping[str, float]]
) -> Pressure | None:
    """How the tightest cap presses, estimated on 200 random architectures (fixed seed); None without caps."""
    if not caps.limits:
        return None
    rng = Random(0)
    archs = [space.sample(rng) for _ in range(200)]
    rows = [costs(arch) for arch in archs]
    shares = {name: sum(row[name] <= limit for row in rows) / len(rows) for name, limit in caps.limits.items()}
    tightest = min(shares, key=lambda name: (shares[name], name))
    values = np.array([row[tightest] for row in rows])
    return pressure_from(evidence.one_hot(space, archs), values, shares[tightest])


def pressure_from(rows_ND: evidence.Floats, costs_N: evidence.Floats, share: float) -> Pressure:
    """Cost levels from a ridge fit of standardised costs on one-hot rows; `share` of the points fit."""
    z_N = (costs_N - costs_N.mean()) / (costs_N.std() or 1.0)
    d = rows_ND.shape[1]
    weights_D = np.linalg.solve(rows_ND.T @ rows_ND + np.eye(d), rows_ND.T @ z_N)
    return Pressure(tuple(LEVELS.index(level(float(w), 5, 8)) for w in weights_D), min(15, int(16 * share)))


def generator_prompt(space: CategoricalSpace, strategy: Strategy) -> str:
    """All that the Generator sees: the strategy and its role."""
    return strategy.compact(space) + GENERATOR_TOKEN


def empty_strategy(space: CategoricalSpace, archs: Sequence[Architecture]) -> Strategy:
    """A strategy without opinion, for when the Navigator's answer cannot be read: the given architectures as
    anchors."""
    return Strategy(tuple(archs), tuple(Direction(0, min(1, len(v.choices) - 1), 0) for v in space.variables), 4, 0)


def json_schema(space: CategoricalSpace) -> str:
    """The `json` mode's form of a candidate: an object with one string, legal or not."""
    longest = max(64, 2 * len(space.format(next(space.all()))))
    arch = {"type": "string", "maxLength": longest}
    schema = {"type": "object", "properties": {"arch": arch}, "required": ["arch"], "additionalProperties": False}
    return json.dumps(schema)


def parse_candidate(space: CategoricalSpace, text: str) -> Architecture:
    """A Generator's answer, read leniently: compact or native form, bare or in a JSON object; UserError if neither."""
    answer = text.strip()
    if answer.startswith("{"):
        try:
            value = json.loads(answer)
        except json.JSONDecodeError:
            raise UserError(f"not JSON: {answer[:60]!r}") from None
        if isinstance(value, dict) and "arch" in value:  # else it is a native form that looks like JSON, as OFA's
            answer = str(value["arch"])
    try:
        return space.parse(answer, "compact")
    except UserError:
        return space.parse(answer)
