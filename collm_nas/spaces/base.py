"""`CategoricalSpace`: ordered categorical variables, some active only under others, with two spellings.

The *native* form is a template of the variables (`{a} {b}|{c}`), inactive slots spelled with their first choice. The
*compact* form is two characters a variable, its letter and its choice (`a0b2c1`), inactive ones left out.
Both are read from left to right without backtracking: that is why a template must be prefix-free (checked here).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import ascii_letters, ascii_lowercase, digits
from typing import Any, NoReturn

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import definition, grammar
from collm_nas.spaces.drawing import Drawing
from collm_nas.spaces.terms import Term, additive, total

LETTERS = ascii_letters
CHOICE_CHARS = digits + ascii_lowercase
_MOST_STATES = 50_000  # beyond this the conditions do not factorise: counting would not end

CostTable = Mapping[str, Any]
"""`{"base": number, "table": {variable position: costs per choice}}`."""


class CategoricalSpace:
    """A search space given by its variables, a native template and optional additive costs (`api.SearchSpace`)."""

    edges: tuple[tuple[int, int], ...] | None = None

    def __init__(
        self,
        name: str,
        variables: Sequence[Variable],
        *,
        template: str | None = None,
        description: str = "",
        costs: Mapping[str, CostTable] | None = None,
        omit_inactive: bool = False,
        native: CategoricalSpace | None = None,
    ) -> None:
        """Raises UserError where names repeat, a condition points forward or the template is ambiguous.

        `omit_inactive`: the native form leaves inactive slots out, with the text after them, instead of spelling their
        first choice. `native` spells the native form where that lists the variables in another order: a space of the
        same variables, conditions and name, with the template.
        """
        self.name = name
        self.description = description
        self.variables = tuple(variables)
        self.costs = dict(costs or {})
        definition.check_variables(name, self.variables)
        self._omits = omit_inactive
        self._speller = native
        if native is None:
            self.template = " ".join("{" + v.name + "}" for v in self.variables) if template is None else template
            self._literals = definition.split_template(name, self.template, self.variables)
            self._symbols = [[self._symbol(i, c) for c in v.choices] for i, v in enumerate(self.variables)]
        else:
            self.template = native.template
        self.needed = [self._parents_after(i) for i in range(len(self.variables) + 1)]
        self._counts: dict[tuple[int, tuple[int, ...]], int] = {}
        self.whole: CategoricalSpace = self
        """The space without a table's restriction."""
        self._rows: tuple[Architecture, ...] | None = None
        self._trie: dict[tuple[int, ...], int] = {}

    # --- definition ---------------------------------------------------------------------------------------------------

    def _parents_after(self, start: int) -> tuple[int, ...]:
        """Positions before `start` on which a variable from `start` on depends."""
        return tuple(sorted({p for v in self.variables[start:] for p, _ in v.active_if if p < start}))

    def spec(self) -> dict[str, Any]:
        """The definition as JSON values: what the journal's header keeps and `digest` hashes."""
        names = [v.name for v in self.variables]
        costs = {}
        for cost, table in self.costs.items():
            per_choice = {names[p]: list(values) for p, values in table.get("table", {}).items()}
            costs[cost] = {"base": table.get("base", 0), **per_choice}
        return {
            "name": self.name,
            "description": self.description,
            "encoding": self.template,
            "variables": [
                {"name": v.name, "choices": list(v.choices), "active_if": self._conditions(v)} for v in self.variables
            ],
            **({"costs": costs} if costs else {}),
            **({"omit_inactive": True} if self._omits else {}),
        }

    def _conditions(self, variable: Variable) -> dict[str, list[str]]:
        parents = [(self.variables[p], allowed) for p, allowed in variable.active_if]
        return {parent.name: [parent.choices[c] for c in sorted(allowed)] for parent, allowed in parents}

    def digest(self) -> str:
        """SHA-256 of the definition and, where a table covers a part of the space, of its rows."""
        parts = [json.dumps(self.spec(), sort_keys=True)]
        if self._rows is not None:
            parts += [",".join(map(str, row.choices)) for row in self._rows]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def restrict(self, archs: Iterable[Architecture]) -> CategoricalSpace:
        """The same space with only these architectures legal (a table that covers a part)."""
        part = copy.copy(self)
        part.whole = self.whole
        part._rows = tuple(dict.fromkeys(archs))
        part._trie = {}
        for arch in part._rows:
            for end in range(len(arch.choices) + 1):
                prefix = arch.choices[:end]
                part._trie[prefix] = part._trie.get(prefix, 0) + 1
        if self._speller is not None:
            part._speller = self._speller.restrict(self.as_spelled(row) for row in part._rows)
        return part

    @property
    def restricted(self) -> bool:
        """Whether only a table's rows are legal."""
        return self._rows is not None

    # --- structure ----------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of distinct legal architectures."""
        return self.count(())

    def active(self, choices: Sequence[int]) -> tuple[bool, ...]:
        """Which of the first `len(choices)` variables are active."""
        flags: list[bool] = []
        for variable in self.variables[: len(choices)]:
            flags.append(all(flags[p] and choices[p] in allowed for p, allowed in variable.active_if))
        return tuple(flags)

    def _next_active(self, prefix: Sequence[int]) -> bool:
        variable = self.variables[len(prefix)]
        if not variable.active_if:
            return True
        flags = self.active(prefix)
        return all(flags[p] and prefix[p] in allowed for p, allowed in variable.active_if)

    def legal_next(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Choices that the next variable may take after `prefix`; `(0,)` where it is inactive."""
        prefix = tuple(prefix)
        if self._rows is not None:
            n = len(self.variables[len(prefix)].choices)
            return tuple(c for c in range(n) if (*prefix, c) in self._trie)
        return tuple(range(len(self.variables[len(prefix)].choices))) if self._next_active(prefix) else (0,)

    def count(self, prefix: Sequence[int]) -> int:
        """Number of legal architectures that begin with these choices."""
        prefix = tuple(prefix)
        if self._rows is not None:
            return self._trie.get(prefix, 0)
        flags = self.active(prefix)
        if any(c and not flag for c, flag in zip(prefix, flags, strict=True)):
            return 0
        if any(not 0 <= c < len(v.choices) for c, v in zip(prefix, self.variables, strict=False)):
            return 0
        return self._count_from(len(prefix), tuple(prefix[p] if flags[p] else -1 for p in self.needed[len(prefix)]))

    def _count_from(self, start: int, state: tuple[int, ...]) -> int:
        """Number of completions from variable `start`, given the choices (-1: inactive) of the parents still needed."""
        if start == len(self.variables):
            return 1
        key = (start, state)
        if key not in self._counts:
            if len(self._counts) > _MOST_STATES:
                raise UserError(f"space {self.name!r}: its conditions do not factorise; let variables depend on fewer")
            self._counts[key] = sum(self._count_from(start + 1, s) for _, s in self.branches(start, state))
        return self._counts[key]

    def branches(self, start: int, state: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
        """(choice, state after it) for every choice of variable `start`; choice 0 alone where it is inactive."""
        known = dict(zip(self.needed[start], state, strict=True))
        variable = self.variables[start]
        on = all(known[p] in allowed for p, allowed in variable.active_if)
        branches = []
        for choice in range(len(variable.choices)) if on else (0,):
            after = {**known, start: choice if on else -1}
            branches.append((choice, tuple(after[p] for p in self.needed[start + 1])))
        return branches

    def make(self, choices: Sequence[int]) -> Architecture:
        """The canonical architecture for these choice positions; ValueError if one is illegal or not in the table."""
        if len(choices) != len(self.variables):
            raise UserError(f"{self.name} has {len(self.variables)} variables, but got {len(choices)} choices")
        for choice, variable in zip(choices, self.variables, strict=True):
            if not 0 <= choice < len(variable.choices) or choice != int(choice):
                raise UserError(
                    f"{self.name}: variable {variable.name!r}: choice number {choice} is not in "
                    f"0..{len(variable.choices) - 1}"
                )
        flags = self.active(choices)
        arch = Architecture(self.name, tuple(int(c) if on else 0 for c, on in zip(choices, flags, strict=True)))
        if self._rows is not None and arch.choices not in self._trie:
            raise UserError(f"{self.name}: {self._native(arch)!r} is legal in the space but not a row of the table")
        return arch

    def all(self) -> Iterator[Architecture]:
        """Every legal architecture, first variable slowest (a table's order where one covers a part of the space)."""
        if self._rows is not None:
            yield from self._rows
            return
        stack: list[tuple[int, ...]] = [()]
        while stack:
            prefix = stack.pop()
            if len(prefix) == len(self.variables):
                yield Architecture(self.name, prefix)
            else:
                stack += [(*prefix, c) for c in reversed(self.legal_next(prefix))]

    def sample(self, rng: Any) -> Architecture:
        """A random architecture: each active variable uniformly (a table's rows uniformly)."""
        if self._rows is not None:
            return self._rows[int(rng.random() * len(self._rows))]
        return self.make([int(rng.random() * len(v.choices)) for v in self.variables])

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """Legal architectures that differ in one active variable's choice (what it switches on takes its first)."""
        found: dict[Architecture, None] = {}
        for i, on in enumerate(self.active(arch.choices)):
            for choice in range(len(self.variables[i].choices)) if on else ():
                changed = [*arch.choices[:i], choice, *arch.choices[i + 1 :]]
                flags = self.active(changed)
                other = Architecture(self.name, tuple(c if f else 0 for c, f in zip(changed, flags, strict=True)))
                if other != arch and (self._rows is None or other.choices in self._trie):
                    found[other] = None
        return list(found)

    def cost(self, arch: Architecture) -> dict[str, float]:
        """Additive costs of the active choices; empty where the space has none."""
        on = self.active(arch.choices)
        parts = {
            name: [table.get("base", 0)] + [c[arch.choices[i]] for i, c in table.get("table", {}).items() if on[i]]
            for name, table in self.costs.items()
        }
        return {name: total(values) for name, values in parts.items()}

    def terms(self, cost: str) -> list[Term] | None:
        """The terms that `cost(arch)[cost]` is the sum of; None where the space can't state them."""
        return additive(self.costs[cost]) if cost in self.costs else None

    def drawing(self, arch: Architecture) -> Drawing | None:
        """What the network looks like; None where that is not known, as for a space from a file."""
        return None

    # --- spellings ----------------------------------------------------------------------------------------------------

    def speller(self, encoding: Encoding) -> CategoricalSpace:
        """The space whose variables stand in the order in which this encoding spells them: mostly this one."""
        return self if encoding == "compact" or self._speller is None else self._speller

    def as_spelled(self, arch: Architecture) -> Architecture:
        """The architecture in the variable order of `speller("native")`."""
        if self._speller is None:
            return arch
        chosen = dict(zip([v.name for v in self.variables], arch.choices, strict=True))
        return Architecture(self.name, tuple(chosen[v.name] for v in self._speller.variables))

    def symbol(self, position: int, choice: int, encoding: Encoding, active: bool = True) -> str:
        """The text that this choice gives: `a0` in compact, choice and separator in native; empty if inactive (in
        native only where the space omits it)."""
        if encoding == "compact":
            return LETTERS[position] + CHOICE_CHARS[choice] if active else ""
        return self._symbols[position][choice] if active or not self._omits else ""

    def _symbol(self, position: int, choice: str) -> str:
        head = self._literals[0] if position == 0 else ""
        return head + choice + self._literals[position + 1]

    def check_compact(self) -> None:
        """UserError if the space is too large for the compact encoding."""
        if len(self.variables) > len(LETTERS) or any(len(v.choices) > len(CHOICE_CHARS) for v in self.variables):
            raise UserError(
                f"space {self.name!r} is too large for the compact encoding (at most {len(LETTERS)} variables of "
                f"{len(CHOICE_CHARS)} choices); use --encoding native"
            )

    def format(self, arch: Architecture, encoding: Encoding = "native") -> str:
        """The canonical spelling of an architecture of this space."""
        if arch.space != self.name:
            raise UserError(f"the architecture belongs to space {arch.space!r}, not to {self.name!r}")
        if encoding == "native":
            return self._native(arch)
        self.check_compact()
        flags = self.active(arch.choices)
        return "".join(self.symbol(i, c, "compact", flags[i]) for i, c in enumerate(arch.choices))

    def _native(self, arch: Architecture) -> str:
        if self._speller is not None:
            return self._speller._native(self.as_spelled(arch))
        if not self._omits:
            return "".join([symbols[c] for symbols, c in zip(self._symbols, arch.choices, strict=True)])
        flags = self.active(arch.choices)
        return "".join(self.symbol(i, c, "native", flags[i]) for i, c in enumerate(arch.choices))

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture spelled by a text, a dict by variable name or a sequence of choices.

        Raises ValueError that names the variable and its legal values.
        """
        if isinstance(encoded, str):
            text = encoded.strip()
            return self.make(self._read_native(text) if encoding == "native" else self._read_compact(text))
        if isinstance(encoded, Mapping):
            unknown = sorted(set(map(str, encoded)) - {v.name for v in self.variables})
            if unknown:
                names = ", ".join(v.name for v in self.variables)
                raise UserError(f"{self.name}: unknown variable {unknown[0]!r}; the variables are {names}")
            choices: list[int] = []
            for i, variable in enumerate(self.variables):
                given = variable.name in encoded or self._next_active(choices)  # an inactive one may be left out
                choices.append(self.position(i, encoded.get(variable.name, variable)) if given else 0)
            return self.make(choices)
        if isinstance(encoded, Sequence) and not isinstance(encoded, bytes) and len(encoded) == len(self.variables):
            return self.make([self.position(i, value) for i, value in enumerate(encoded)])
        raise UserError(
            f"{self.name}: cannot read {repr(encoded)[:80]}; the form is {self._native(next(self.all()))!r}"
        )

    def position(self, i: int, value: object) -> int:
        """The position of a choice of variable `i`, by its text or, for numeric choices, an equal number."""
        variable = self.variables[i]
        if value is variable:
            raise UserError(f"{self.name}: variable {variable.name!r} is missing; legal: {', '.join(variable.choices)}")
        if str(value) in variable.choices:
            return variable.choices.index(str(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            for c, choice in enumerate(variable.choices):
                if definition.number(choice) == value:
                    return c
        raise UserError(
            f"{self.name}: variable {variable.name!r}: {str(value)[:40]!r} is not legal; "
            f"legal: {', '.join(variable.choices)}"
        )

    def _read_native(self, text: str) -> list[int]:
        if self._speller is not None:
            read = self._speller._read_native(text)
            chosen = dict(zip([v.name for v in self._speller.variables], read, strict=True))
            return [chosen[v.name] for v in self.variables]
        choices: list[int] = []
        rest = text
        for i in range(len(self.variables)):
            if self._omits and not self._next_active(choices):
                choices.append(0)
                continue
            last = i + 1 == len(self.variables)
            for c, symbol in enumerate(self._symbols[i]):
                symbol = symbol.lstrip() if i == 0 else symbol
                symbol = symbol.rstrip() if last else symbol
                if rest == symbol if last else rest.startswith(symbol):
                    choices.append(c)
                    rest = rest[len(symbol) :]
                    break
            else:
                self._refuse(i, rest)
        return self._ended(choices, rest)

    def _ended(self, choices: list[int], rest: str) -> list[int]:
        if rest:
            raise UserError(f"{self.name}: {rest[:40]!r} follows the last variable; nothing may")
        return choices

    def _read_compact(self, text: str) -> list[int]:
        self.check_compact()
        choices: list[int] = []
        rest = text
        for i, variable in enumerate(self.variables):
            if not self._next_active(choices):
                choices.append(0)
                continue
            c = CHOICE_CHARS.find(rest[1:2]) if len(rest) > 1 else -1
            if rest[:1] != LETTERS[i] or not 0 <= c < len(variable.choices):
                self._refuse(i, rest, f"{LETTERS[i]}0..{LETTERS[i]}{CHOICE_CHARS[len(variable.choices) - 1]}")
            choices.append(c)
            rest = rest[2:]
        return self._ended(choices, rest)

    def _refuse(self, i: int, rest: str, legal: str = "") -> NoReturn:
        variable = self.variables[i]
        legal = legal or ", ".join(variable.choices)
        raise UserError(f"{self.name}: variable {variable.name!r} cannot be read at {rest[:40]!r}; legal: {legal}")

    # --- constraint text ----------------------------------------------------------------------------------------------

    def regex(self, encoding: Encoding) -> str:
        """A regular expression for exactly the canonical spellings (of the whole space, even where restricted)."""
        if encoding == "compact":
            self.check_compact()
        return grammar.regex(self, encoding)
