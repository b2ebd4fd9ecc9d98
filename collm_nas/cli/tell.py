"""`collm-nas tell RUN FILE`: results of architectures that `collm-nas ask` gave out, as JSON lines in any order.

A file is checked as a whole first: where one line is wrong, nothing of it is recorded.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import Architecture, Evaluation, Failure, Outcome, UserError
from collm_nas.cli.ask import add_wait

if TYPE_CHECKING:
    from collm_nas.asktell import OpenSearch

KEYS = ("arch", "fitness", "costs", "error", "seconds")
ASKED = ("run", "number", "compact", "choices")
"""What else a line of `ask` has, and a result may repeat."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's folder")
    parser.add_argument(
        "file",
        metavar="FILE",
        help='JSON lines {"arch": .., "fitness": ..}; where known "costs", "seconds", "error" (the fitness\'s standard '
        'error); without a fitness, "error" is the text of what failed; - reads stdin',
    )
    add_wait(parser)


def run(args: argparse.Namespace) -> int:
    """Record the results, and say how the run stands."""
    from collm_nas import reopen

    lines = list(_lines(args.file))
    loop = reopen.telling(args.run, args.wait)
    try:
        fresh = results(loop, lines)
        if fresh:
            loop.tell(list(fresh), [_value(outcome) for outcome in fresh.values()])
        result = loop.result()
    finally:
        loop.close()
    known = len(lines) - len(fresh)
    said = f"told {len(fresh)}" + (f", {known} known already" if known else "") + f"; {len(loop.pending)} are out, "
    best = "none" if result.best is None else f"{result.best['fitness']:.6g}: {result.best['arch']}"
    print(said + f"{result.counts['evaluated']} of {result['protocol']['budget']} evaluated, best {best}")
    return 0


def _lines(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line stands, and what it holds; UserError where it is no JSON object."""
    name = "stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"cannot read {name}: {reason}; give a file of JSON lines, or - for stdin") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            held = json.loads(line)
        except ValueError:
            held = None
        if not isinstance(held, dict):
            raise UserError(
                f'{name}, line {number}: must be a JSON object such as {{"arch": "..", "fitness": 1.5}}, but is '
                f"{line.strip()[:60]!r}; nothing was recorded"
            )
        yield f"{name}, line {number}", held


def results(loop: OpenSearch, lines: list[tuple[str, dict[str, Any]]]) -> dict[Architecture, Outcome]:
    """What is new among these lines; one that was told before with the same value is left out.

    Raises UserError that names the line which is wrong, was not asked for, or says another value than before.
    """
    fresh: dict[Architecture, Outcome] = {}
    out = {*loop.pending, *loop.forgotten}
    for where, line in lines:
        try:
            arch, result = _result(loop.space, line)
            known = fresh.get(arch) or loop.told(arch)
            if known is None and arch not in out:
                raise UserError(
                    f"{loop.space.format(arch)!r} was not asked for in this run; ask for it, or leave it out"
                )
            if known is not None and not _same(known, result, loop.space.cost(arch)):
                raise UserError(
                    f"{loop.space.format(arch)!r} was told before {_said(known)}, and here {_said(result)} or other "
                    "costs; the first one stays, leave this line out"
                )
        except UserError as error:
            raise UserError(f"{where}: {error}; nothing was recorded") from None
        if known is None:
            fresh[arch] = result
    return fresh


def _value(outcome: Outcome) -> Any:
    """An outcome as `OpenSearch.tell` takes it."""
    return {"error": outcome.reason} if isinstance(outcome, Failure) else outcome


def _said(outcome: Outcome) -> str:
    return "as failed" if isinstance(outcome, Failure) else f"with fitness {outcome.fitness:g}"


def _result(space: Any, line: Mapping[str, Any]) -> tuple[Architecture, Outcome]:
    for key in line:
        if key not in KEYS + ASKED:
            raise UserError(f"unknown key {key[:40]!r}; legal: {', '.join(KEYS)}, and those of a line of `ask`")
    if not isinstance(line.get("arch"), str):
        raise UserError("it needs the key 'arch', an architecture in native spelling")
    arch = space.parse(line["arch"])
    if "fitness" not in line:
        if isinstance(line.get("error"), str):
            return arch, Failure(line["error"])
        raise UserError("it needs the key 'fitness', a number, or 'error', the text of what failed")
    costs = line.get("costs") or {}
    if not isinstance(costs, dict):
        raise UserError(f"'costs' must be an object of numbers, but is {costs!r:.40}")
    error = line.get("error")
    return arch, Evaluation(
        _number("fitness", line["fitness"]),
        {name: _number(f"cost {name!r}", value, least=0) for name, value in costs.items()},
        _number("seconds", line.get("seconds", 0.0), least=0),
        "tell()",
        None if error is None else _number("error", error, least=0),
    )


def _number(name: str, value: object, least: float = -math.inf) -> float:
    legal = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    if not legal:
        raise UserError(f"{name} must be a finite number{'' if least else ' of at least 0'}, but is {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def _same(known: Outcome, result: Outcome, own: Mapping[str, float]) -> bool:
    """Whether a second result says the same, as far as it says anything; costs that the space knows are its own, and of
    a failure the reason may differ."""
    if isinstance(known, Failure) or isinstance(result, Failure):
        return isinstance(known, Failure) and isinstance(result, Failure)
    costs = all(name in own or known.costs.get(name) == value for name, value in result.costs.items())
    return known.fitness == result.fitness and costs and result.error in (None, known.error)
