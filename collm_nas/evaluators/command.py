"""Any command line as an evaluator: `python train.py {arch.json}`, run once for each architecture.

The command learns the architecture by its arguments and its environment, and says what it is worth in the last line on
its stdout that is JSON. No shell reads the command: it is split as a shell would split it, and what is put in place of
`{arch}` or `{arch.json}` stays one argument, whatever characters it has.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas.api import Architecture, Evaluation, EvaluationError, SearchSpace, UserError
from collm_nas.evaluators import _process
from collm_nas.evaluators.function import evaluation_of
from collm_nas.objectives import LEGAL

_PLACE = re.compile(r"\{arch(?:\.json)?\}")
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
_SHOWN = 200
"""Characters of a command's output that an error quotes."""


@dataclass(frozen=True)
class CommandEvaluator:
    """`api.Evaluator`: one process an architecture, in `folder`; see `create`."""

    space: SearchSpace
    command: str
    fitness: str
    timeout: float | None
    retries: int
    seed: int
    folder: Path

    def evaluate(self, archs: Sequence[Architecture]) -> list[Evaluation]:
        """One run of the command each, in order; EvaluationError says how the last of its tries failed."""
        return [self._evaluate(arch) for arch in archs]

    def costs(self, arch: Architecture) -> dict[str, float]:
        """None are known before the command has run."""
        return {}

    def report(self, arch: Architecture) -> dict[str, float]:
        """Nothing is held back from the search."""
        return {}

    def protocol(self) -> dict[str, Any]:
        """The command and the hash of its text; the programs that it names have none here."""
        return {
            "source": "command",
            "command": self.command,
            "sha256": hashlib.sha256(self.command.encode()).hexdigest(),
            "fitness": self.fitness,
            "report": [],
            "source_hashes": [],
        }

    def _evaluate(self, arch: Architecture) -> Evaluation:
        for attempt in range(1, self.retries + 1):
            try:
                return self._run(arch)
            except EvaluationError as error:
                if error.everywhere:
                    raise
                text = "%s: %s; it is tried again (%d of %d)"
                logging.getLogger("collm_nas").warning(text, self.space.format(arch), error, attempt, self.retries)
        return self._run(arch)

    def _run(self, arch: Architecture) -> Evaluation:
        with tempfile.TemporaryDirectory(prefix="collm-arch-") as made:
            scratch, native = Path(made), self.space.format(arch)
            path = scratch / "arch.json"
            shown = {"space": self.space.name, **described(self.space, arch)}
            path.write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
            told = {"COLLM_ARCH": native, "COLLM_ARCH_JSON": str(path), "COLLM_SEED": str(self.seed)}
            try:
                ended = _process.run(
                    _filled(shlex.split(self.command), {"{arch}": native, "{arch.json}": str(path)}),
                    environment={**os.environ, **told},
                    folder=self.folder,
                    scratch=scratch,
                    timeout=self.timeout,
                )
            except OSError as error:
                what = f"{error.filename}: {error.strerror}"
                raise EvaluationError(f"the command cannot be started ({what})", everywhere=True) from None
        self._check(ended)
        return evaluation_of(self._metrics(ended.out), "the command")

    def _check(self, ended: _process.Ended) -> None:
        if ended.status is None:
            text = f"the command took longer than {self.timeout:g} s (--evaluator-timeout) and was ended"
            raise EvaluationError(text + _quoted(ended.err))
        if ended.status:
            raise EvaluationError(_explained(ended.status) + _quoted(ended.err), everywhere=ended.status in (126, 127))

    def _metrics(self, out: str) -> Any:
        """What the command printed, in the form of what a function returns."""
        value = _last_json(out)
        if not isinstance(value, dict):
            return value
        known = {cost: value[cost] for cost in LEGAL[1:] if cost in value}
        if self.fitness not in value and not isinstance(value.get("error"), str):
            keys = ", ".join(map(str, value)) or "none"
            raise EvaluationError(
                f"the command printed no {self.fitness!r}; its keys are {keys}: name one of them by --fitness",
                everywhere=True,
            )
        costs = value.get("costs", {})
        if isinstance(costs, Mapping):
            costs = {**known, **costs}
        return {"fitness": value.get(self.fitness), "costs": costs, "error": value.get("error")}


def described(space: SearchSpace, arch: Architecture) -> dict[str, Any]:
    """The architecture as JSON values: native and compact spelling (None where the space is too large for that),
    and the choice of every active variable, which `space.parse` reads too."""
    try:
        compact: str | None = space.format(arch, "compact")
    except UserError:
        compact = None
    chosen = zip(space.variables, arch.choices, space.active(arch.choices), strict=True)
    choices = {variable.name: _values(variable.choices)[choice] for variable, choice, active in chosen if active}
    return {"arch": space.format(arch), "compact": compact, "choices": choices}


def _values(choices: Sequence[str]) -> Sequence[Any]:
    """The choices of a variable: numbers where all of them are spelled as such, else texts."""
    try:
        values = [json.loads(choice) for choice in choices]
    except ValueError:
        return choices
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in values)
    return values if numbers else choices


def _filled(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    return [_PLACE.sub(lambda found: values[found[0]], argument) for argument in arguments]


def _last_json(out: str) -> Any:
    """The last line that is JSON: a number, or an object; `nan` and `inf` are numbers too."""
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    for line in reversed(lines):
        try:
            return float(line) if line.lower().lstrip("+-") in ("nan", "inf", "infinity") else json.loads(line)
        except ValueError:
            continue
    last = f"its last line is {lines[-1][:_SHOWN]!r}" if lines else "it printed nothing"
    raise EvaluationError(
        f"the command printed no line of JSON on stdout ({last}); print a number or an object of metrics last"
    )


def _explained(status: int) -> str:
    number = -status if status < 0 else status - 128
    name = signal.Signals(number).name if number in {*signal.Signals} else ""
    often = " (often for want of memory)" if name == "SIGKILL" else ""
    if status < 0:
        return f"the command was killed by {name or f'signal {number}'}{often}"
    if status in (126, 127):
        return f"the command ended with exit code {status} ({'not executable' if status == 126 else 'not found'})"
    said = f" (in a shell's words: killed by {name}{often})" if name else ""
    return f"the command ended with exit code {status}{said}"


def _quoted(err: str) -> str:
    """The last lines of stderr."""
    lines = [" ".join(line.split()) for line in err.splitlines() if line.strip()]
    said = " | ".join(lines[-3:])
    return f": {said if len(said) <= _SHOWN else '…' + said[-_SHOWN:]}" if said else ""


def create(
    space: SearchSpace,
    command: str,
    *,
    fitness: str = "fitness",
    timeout: float | None = None,
    retries: int = 0,
    seed: int = 0,
) -> CommandEvaluator:
    """The command as an evaluator of architectures of this space, run in the current directory.

    In its arguments `{arch}` becomes the native spelling, `{arch.json}` the path of a file with what `described` says;
    the environment has both as COLLM_ARCH and COLLM_ARCH_JSON, and `seed` as COLLM_SEED. The last line of JSON on its
    stdout is a number, or an object with the key `fitness`, costs (`flops`, `params`, `latency`, or any in an object
    `costs`) and the standard error `error`; a text as `error` says why there is no fitness. `timeout`: seconds, after
    which the command and its children are ended; `retries`: further tries after one that failed.

    Raises UserError where the command cannot be read or is not found, or a number is illegal.
    """
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--evaluator-cmd {command!r} cannot be read ({error}); close its quotes") from None
    if not arguments:
        raise UserError("--evaluator-cmd is empty; give a command, e.g. 'python train.py {arch.json}'")
    if shutil.which(arguments[0]) is None:
        raise UserError(f"--evaluator-cmd: the command {arguments[0]!r} is not found, or not executable; give its path")
    _check_shell(arguments)
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise UserError(f"--evaluator-timeout must be a finite number of seconds above zero, but is {timeout!r}")
    if retries < 0:
        raise UserError(f"--evaluator-retries must be a whole number of at least 0, but is {retries!r}")
    return CommandEvaluator(space, command, fitness, timeout, retries, seed, Path.cwd())


def _check_shell(arguments: Sequence[str]) -> None:
    """UserError where a shell would read what is put in place as a part of its program."""
    options = [i for i, argument in enumerate(arguments) if re.fullmatch(r"-[a-z]*c", argument)]
    if os.path.basename(arguments[0]) in _SHELLS and options:
        program = arguments[options[0] + 1 :][:1]
        if program and (found := _PLACE.search(program[0])):
            variable = "$COLLM_ARCH" if found[0] == "{arch}" else "$COLLM_ARCH_JSON"
            raise UserError(
                f"--evaluator-cmd: {arguments[0]} would read {found[0]} as a part of its program; write "
                f'"{variable}" there, quotes included'
            )
