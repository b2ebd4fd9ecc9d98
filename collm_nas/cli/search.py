"""`collm-nas search`: from a space and a table to the best architecture and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

DEFAULT = "digits-cells"
DEFAULT_COLUMNS = ("valid", ("test",))
"""Fitness and report columns of the built-in table, where none are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the checks are in `collm_nas.settings`, for Python callers too."""
    what, how = parser.add_argument_group("what is searched"), parser.add_argument_group("how")
    models = parser.add_argument_group("language models")
    _add_problem(what)
    add_limits(what)
    add_search(how)
    how.add_argument("--max-hours", type=number, metavar="H", help="stop after H hours, all sessions added up")
    add_models(models)
    models.add_argument(
        "--interactive", action="store_true", default=None, help="show each round's strategies and change them"
    )
    _add_run(parser.add_argument_group("the run"))


def _add_problem(group: Any) -> None:
    group.add_argument("--space", metavar="S", help=f"a built-in space or a YAML file (default {DEFAULT})")
    group.add_argument(
        "--table", metavar="F", help=f"CSV(.gz) or Parquet with every result, or {DEFAULT} (the default)"
    )
    group.add_argument("--fitness", metavar="COL", help="the column that the search may see; higher is better")
    group.add_argument(
        "--report", metavar="COL", action="append", help="a column read once, for the winner; repeatable"
    )
    group.add_argument(
        "--evaluator", metavar="MODULE:OBJECT", help="a Python function of an architecture, instead of a table"
    )
    group.add_argument(
        "--evaluator-cmd", metavar="CMD", help="a command that scores {arch.json}, or {arch}: prints its fitness last"
    )
    group.add_argument(
        "--evaluator-timeout",
        type=number,
        metavar="S",
        help="end an evaluation after S seconds: a command, or with --workers any other",
    )
    group.add_argument("--evaluator-retries", type=whole, metavar="N", help="try a failed command N times more (0)")
    group.add_argument("--supernet", metavar="F", help="a supernet: folder of a training, checkpoint or MODULE:OBJECT")
    group.add_argument("--data", metavar="DIR", help="images to score subnets on: a folder, Parquet files or digits")
    group.add_argument("--valid", type=number, metavar="X", help="share or number of train images held out (0.1)")
    group.add_argument("--protocol", metavar="NAME", help="scoring of subnets: fast (default), ofa, spos, autoformer")
    group.add_argument("--race", action="store_true", default=None, help="stop early on subnets that are hopeless")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_limits(group: Any) -> None:
    """Objectives and caps."""
    group.add_argument(
        "--objective",
        metavar="NAME",
        action="append",
        help="fitness and, beside it, flops, params or latency to minimise: the search is for a front; repeatable",
    )
    for cost, unit in (("flops", "multiply-adds"), ("params", "parameters"), ("latency", "milliseconds")):
        several = ", or several with commas: a family of runs" if cost == "flops" else ""
        group.add_argument(f"--max-{cost}", type=caps, metavar="X", help=f"cap on {cost} ({unit}){several}")
    group.add_argument("--over-cap", metavar="reject|evaluate", help="over-cap candidates (default reject)")


def add_search(group: Any) -> None:
    """Budget, steps and optimiser."""
    group.add_argument("--budget", type=whole, metavar="N", help="number of evaluations (default 100)")
    group.add_argument("--init", type=whole, metavar="N", help="random ones to begin with, of the budget (default 10)")
    group.add_argument("--batch", type=whole, metavar="N", help="candidates asked for at once (default 5)")
    group.add_argument("--target", type=number, metavar="P", help="stop at the first fitness of at least P")
    group.add_argument(
        "--start-from", metavar="FILE", help="architectures to evaluate first, one native spelling a line"
    )
    group.add_argument("--optimizer", metavar="NAME", help="collm (the language models, default) or a baseline")


def add_models(group: Any) -> None:
    """Which language models, and how they are sampled."""
    group.add_argument(
        "--model",
        metavar="DIR",
        help="folder with base, navigator and generator; embedded (default), smollm2",
    )
    group.add_argument("--navigator", metavar="DIR", help="another Navigator adapter")
    group.add_argument("--generator", metavar="DIR", help="another Generator adapter")
    group.add_argument("--engine", metavar="NAME", help="transformers (default), vllm or server")
    group.add_argument(
        "--server", metavar="HOST:PORT", help="for --engine server: `vllm serve`, `llama-server` or another of the kind"
    )
    group.add_argument(
        "--server-model", metavar="NAME", help="which of its models; or navigator=NAME,generator=NAME (see README)"
    )
    group.add_argument("--server-timeout", type=number, metavar="S", help="seconds that it may be silent (default 600)")
    group.add_argument(
        "--allow-remote", action="store_true", default=None, help="it may be outside this machine and private networks"
    )
    group.add_argument("--quantize", metavar="8bit|4bit", help="the base's weights by bitsandbytes (extra qlora)")
    group.add_argument(
        "--preset",
        metavar="paper",
        help="the paper's own algorithm, by an untuned chat model (--model DIR, or smollm2)",
    )
    group.add_argument("--prompts", metavar="DIR", help="for --preset paper: other texts for some of its prompts")
    group.add_argument(
        "--reasoning", type=reasoning, metavar="off|N|auto", help="tokens of thinking before an answer (default off)"
    )
    group.add_argument("--decoding", metavar="MODE", help="free < json < legal < affordable < new (default new)")
    group.add_argument(
        "--sampling",
        metavar="NAME",
        help="rejection (default): redraw first; masked; reweighted: exactly the model's law on what is allowed; asap: "
        "near it",
    )
    group.add_argument(
        "--grammar-backend",
        metavar="NAME",
        help="outlines_core, llguidance, xgrammar (extra structured) or table (small vocabularies); default auto: the "
        "first for small vocabularies, the second for large ones",
    )
    group.add_argument("--encoding", metavar="compact|native", help="how candidates are spelled (default: the model's)")
    group.add_argument(
        "--temperature", type=number, metavar="T", help="of sampling (default: the one it was tuned for)"
    )
    group.add_argument(
        "--top-p", type=number, metavar="P", help="draw each token from the likeliest that hold this share (default 1)"
    )
    group.add_argument("--hint", metavar="TEXT", help="advice in words: 'prefer kernel 7 late; avoid skip'")
    group.add_argument(
        "--advisor", metavar="O", help="an optimiser of --optimizer whose candidates the Navigator reads"
    )


def _add_run(group: Any) -> None:
    group.add_argument("--seed", type=whole, metavar="N", help="the same seed gives the same search (default 0)")
    group.add_argument("--out", metavar="RUN", help="run folder (default: the first free run-N here)")
    group.add_argument(
        "--reuse", metavar="RUN", action="append", default=[], help="take over an earlier run's evaluations; repeatable"
    )
    group.add_argument(
        "--workers",
        type=workers,
        metavar="N|ray://HOST:PORT",
        help="evaluations at once, at most --batch of them (default 1); more need Ray",
    )
    group.add_argument(
        "--max-failures", type=whole, metavar="N", help="stop after N failed evaluations in a row (default 10)"
    )
    group.add_argument(
        "--retry-failed", action="store_true", default=None, help="with --resume: evaluate again what failed"
    )
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in --out; a larger --budget extends it"
    )


def whole(text: str) -> int:
    """A whole number; `argparse` names the option."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def number(text: str) -> float:
    """A number, e.g. 3e8; `argparse` names the option."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def caps(text: str) -> float | tuple[float, ...]:
    """A number, or several with commas; `argparse` names the option."""
    several = tuple(number(one) for one in text.split(","))
    return several if len(several) > 1 else several[0]


def reasoning(text: str) -> int | str:
    """A number of tokens, `off` or `auto`."""
    return text if text in ("off", "auto") else whole(text)


def workers(text: str) -> int | str:
    """A number of workers, or the address of a cluster."""
    try:
        return int(text)
    except ValueError:
        return text


def run(args: argparse.Namespace) -> int:
    """Search, then print the outcome and where the report is."""
    from collm_nas import settings

    given = {name: getattr(args, name, None) for name in settings.Settings.__dataclass_fields__}
    options = {name: value for name, value in given.items() if value is not None}  # the rest is for preset and settings
    if args.evaluator_cmd:
        options.pop("evaluator_timeout", None)  # the command's own
    several = _several(options)
    settings.of(options)  # cheap checks first, before a large table is read
    space, evaluator = _problem(args)
    out = Path(args.out) if args.out else None if args.resume else _free_folder()
    options |= {"start_from": args.start_from, "out": out, "resume": args.resume, "progress": True}
    try:
        _search(space, evaluator, several, options)
    except KeyboardInterrupt:
        return _interrupted(args, out)
    return 0


def _several(options: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """The one cost with several caps, taken out of the options; empty where each has one at most."""
    found = {name: value for name, value in options.items() if name.startswith("max_") and isinstance(value, tuple)}
    if len(found) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in found)
        raise UserError(f"{names} both have several values; a family has several of one cap")
    for name in found:
        options[name] = None
    return {name.removeprefix("max_"): value for name, value in found.items()}


def _search(space: Any, evaluator: Any, several: dict[str, tuple[float, ...]], options: dict[str, Any]) -> None:
    from collm_nas.cli import summary

    if not several:
        from collm_nas import app

        summary.show(app.search(space, evaluator, **options))
    for cost, values in several.items():
        from collm_nas import family

        summary.show_family(family.search_family(space, evaluator, cost, values, **options))


def _interrupted(args: argparse.Namespace, out: Path | None) -> int:
    """Say how to go on; 130."""
    import shlex

    again = [*args.arguments, *([] if args.out else ["--out", str(out)]), *([] if args.resume else ["--resume"])]
    if out is not None and out.exists():
        how = f"the journal is whole, go on with: collm-nas search {shlex.join(again)}"
    else:
        how = "nothing was recorded yet; run the same command again"
    print(f"collm-nas: interrupted; {how}", file=sys.stderr)
    return 130


def _free_folder() -> Path:
    n = 1
    while Path(f"run-{n}").exists():
        n += 1
    return Path(f"run-{n}")


def _problem(args: argparse.Namespace) -> tuple[Any, Any]:
    from collm_nas import spaces

    given = [name for name in ("table", "supernet", "evaluator", "evaluator_cmd") if getattr(args, name)]
    if len(given) > 1:
        raise UserError(f"{_option(given[0])} and {_option(given[1])} both score architectures; give one of them")
    chosen = given[0] if given else "table"
    _require_owner(args, chosen in ("table", "evaluator_cmd"), ("fitness",), "--table or --evaluator-cmd")
    _require_owner(args, chosen == "table", ("report",), "--table")
    _require_owner(args, chosen == "supernet", ("data", "valid", "protocol", "race", "device"), "--supernet")
    _require_owner(args, chosen == "evaluator_cmd", ("evaluator_retries",), "--evaluator-cmd")
    if args.supernet:
        return _supernet(args)
    if args.evaluator_cmd:
        return _command(args)
    name = args.space or DEFAULT
    table = args.table or (DEFAULT if name == DEFAULT and not args.evaluator else None)
    if table is None and not args.evaluator:
        raise UserError(
            f"--space {name} needs something to score it: give --table FILE, --supernet F, "
            "--evaluator MODULE:OBJECT or --evaluator-cmd COMMAND"
        )
    space = spaces.load(name)
    return space, (_table(space, table, args) if table else _function(space, args.evaluator))


def _require_owner(args: argparse.Namespace, owned: bool, names: Sequence[str], owner: str) -> None:
    for name in names:
        if getattr(args, name) is not None and not owned:
            raise UserError(
                f"{_option(name)} is for {owner}, which is not what scores architectures here; leave it out"
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _supernet(args: argparse.Namespace) -> tuple[Any, Any]:
    from collm_nas.evaluators import supernet

    evaluator = supernet.load(
        args.space,
        args.supernet,
        args.data,
        valid=args.valid,
        protocol=args.protocol or "fast",
        race=bool(args.race),
        device=args.device,
        latency=args.max_latency is not None or "latency" in (args.objective or ()),
    )
    return evaluator.space, evaluator


def _table(space: Any, table: str, args: argparse.Namespace) -> Any:
    from collm_nas.evaluators import table as tables

    fitness, report = args.fitness, args.report
    if table == DEFAULT:
        fitness = fitness or DEFAULT_COLUMNS[0]
        report = [c for c in DEFAULT_COLUMNS[1] if c != fitness] if report is None else report
    return tables.load(space, table, fitness, report or [])


def _command(args: argparse.Namespace) -> tuple[Any, Any]:
    from collm_nas import spaces
    from collm_nas.evaluators import command

    if not args.space:
        raise UserError("--evaluator-cmd needs --space S, whose architectures the command scores")
    space = spaces.load(args.space)
    evaluator = command.create(
        space,
        args.evaluator_cmd,
        fitness=args.fitness or "fitness",
        timeout=args.evaluator_timeout,
        retries=args.evaluator_retries or 0,
        seed=args.seed or 0,
    )
    return space, evaluator


def _function(space: Any, text: str) -> Any:
    """The object that `MODULE:OBJECT` names, as an evaluator."""
    from collm_nas import named
    from collm_nas.evaluators import function

    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise UserError(f"--evaluator {text!r} must be MODULE:OBJECT, e.g. my_code:score")
    found = named.load("--evaluator", text)
    return found if hasattr(found, "evaluate") else function.create(space, found, text)
