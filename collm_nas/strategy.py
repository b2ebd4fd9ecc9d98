"""`Strategy`: what the Navigator writes and all that the Generator sees, with two lossless spellings.

*compact* is made of the embedded tokenizer's tokens; *words* is for larger models and for people. Either parses back to
the equal value: `parse(render(s)) == s`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from collm_nas.api import Architecture, UserError
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS, CategoricalSpace

ANCHORS = 3
SETTLED = ("open", "leaning", "mostly settled", "nearly settled")
REASONS = (
    "nothing is known yet, so spread out",
    "the best lies elsewhere, so move away from what was found",
    "what was found is partly right, so change several variables",
    "the best one found is nearly right, so change little",
    "the cap binds, so spend the cost where it pays",
)
ROAM_STEPS = 8
_ROAM = re.compile(r"roam: change about (\d) eighths of the variables")


@dataclass(frozen=True, slots=True)
class Direction:
    """For one variable: the two choices to take most (equal where only one is wanted), and how settled it is (0 to
    3)."""

    first: int
    second: int
    settled: int


@dataclass(frozen=True, slots=True)
class Strategy:
    """Anchors (example architectures, best first), a direction per variable, how far to roam (eighths of the variables
    that candidates should change against the anchors), and the number of a reason in `REASONS`."""

    anchors: tuple[Architecture, ...]
    directions: tuple[Direction, ...]
    roam: int
    reason: int

    def compact(self, space: CategoricalSpace) -> str:
        """The spelling for the embedded model: about 6 tokens a variable."""
        parts = ["<a>" + space.format(arch, "compact") for arch in self.anchors]
        parts.append("<dir>")
        for letter, d in zip(LETTERS, self.directions, strict=False):
            parts.append(f"{letter}{CHOICE_CHARS[d.first]}{letter}{CHOICE_CHARS[d.second]}<s{d.settled}>")
        return "".join(parts) + f"<roam{self.roam}><why{self.reason}>"

    def words(self, space: CategoricalSpace) -> str:
        """The spelling in plain words, one line a statement."""
        lines = [f"anchor: {space.format(arch)}" for arch in self.anchors]
        lines += [_direction_words(space, i, d) for i, d in enumerate(self.directions)]
        lines.append(f"roam: change about {self.roam} eighths of the variables")
        lines.append(f"why: {REASONS[self.reason]}")
        return "\n".join(lines)

    @staticmethod
    def parse(text: str, space: CategoricalSpace) -> Strategy:
        """Read either spelling; UserError says what is wrong with the text."""
        text = text.strip()
        return _parse_compact(text, space) if text.startswith("<a>") else _parse_words(text, space)


def _direction_words(space: CategoricalSpace, position: int, d: Direction) -> str:
    variable = space.variables[position]
    first, second = variable.choices[d.first], variable.choices[d.second]
    wanted = f"{first} before {second}" if d.first != d.second else f"{first} alone"
    return f"{variable.name}: {wanted}, {SETTLED[d.settled]}"


def regex(space: CategoricalSpace) -> str:
    """A regular expression for the compact spelling: legal anchors, legal choices, one direction a variable."""
    space.check_compact()
    arch = space.regex("compact")
    parts = [f"<a>{arch}"] * ANCHORS + ["<dir>"]
    for letter, variable in zip(LETTERS, space.variables, strict=False):
        pair = f"{letter}[{CHOICE_CHARS[: len(variable.choices)]}]"
        parts.append(f"{pair}{pair}<s[0-{len(SETTLED) - 1}]>")
    return "".join(parts) + f"<roam[0-{ROAM_STEPS - 1}]><why[0-{len(REASONS) - 1}]>"


def longest(space: CategoricalSpace) -> int:
    """Characters of the longest compact spelling: its tokens, at most, for a model without our marks and pairs."""
    n = len(space.variables)
    return ANCHORS * len(f"<a>{n * 'a0'}") + len(f"<dir>{n * 'a0a0<s0>'}<roam0><why0>")


def _parse_compact(text: str, space: CategoricalSpace) -> Strategy:
    space.check_compact()
    head, found, tail = text.partition("<dir>")
    pieces = [rf"{letter}([{CHOICE_CHARS[: len(v.choices)]}]){letter}([{CHOICE_CHARS[: len(v.choices)]}])<s([0-3])>"
              for letter, v in zip(LETTERS, space.variables, strict=False)]  # fmt: skip
    match = re.fullmatch("".join(pieces) + rf"<roam([0-7])><why([0-{len(REASONS) - 1}])>", tail)
    if not found or match is None:
        raise UserError(f"not a strategy for {space.name}: {text[:60]!r}")
    *flat, roam, reason = match.groups()
    directions = tuple(
        Direction(CHOICE_CHARS.index(flat[i]), CHOICE_CHARS.index(flat[i + 1]), int(flat[i + 2]))
        for i in range(0, len(flat), 3)
    )
    anchors = tuple(space.whole.parse(a, "compact") for a in head.split("<a>")[1:])
    return Strategy(anchors, directions, int(roam), int(reason))


def _parse_words(text: str, space: CategoricalSpace) -> Strategy:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    anchors = tuple(space.whole.parse(line[8:]) for line in lines if line.startswith("anchor: "))
    body = lines[len(anchors) :]
    if len(body) != len(space.variables) + 2:
        raise UserError(
            f"not a strategy for {space.name}: expected a line for each of {len(space.variables)} variables"
        )
    directions = tuple(_read_direction(space, i, line) for i, line in enumerate(body[:-2]))
    roam = _ROAM.fullmatch(body[-2])
    reason = body[-1].removeprefix("why: ")
    if roam is None or reason not in REASONS:
        raise UserError(f"not a strategy for {space.name}: {body[-2][:40]!r}, {body[-1][:40]!r}")
    return Strategy(anchors, directions, int(roam[1]), REASONS.index(reason))


def _read_direction(space: CategoricalSpace, position: int, line: str) -> Direction:
    k = len(space.variables[position].choices)
    for first in range(k):
        for second in range(k):
            for settled in range(len(SETTLED)):
                d = Direction(first, second, settled)
                if line == _direction_words(space, position, d):
                    return d
    raise UserError(
        f"not a strategy for {space.name}: {space.variables[position].name!r} cannot be read at {line[:60]!r}"
    )
