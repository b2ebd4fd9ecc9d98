"""`collm-nas export RUN`: the winner of a search with its weights, in files that load without this project."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.rundir import evaluator_name

if TYPE_CHECKING:
    from torch import nn

FOLDER = "export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run that a supernet scored")
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"a new folder (default RUN/{FOLDER})")
    parser.add_argument("--data", metavar="DIR", help="the run's images, where they are elsewhere now")
    parser.add_argument("--supernet", metavar="F", help="the run's supernet, where it is elsewhere now")
    parser.add_argument(
        "--weights",
        default="inherited",
        metavar="inherited|retrained|FILE",
        help="the supernet's (default), those of `collm-nas supernet retrain RUN`, or a file of the network's tensors",
    )
    parser.add_argument("--no-onnx", action="store_true", help="without model.onnx, which needs the extra onnx")


def run(args: argparse.Namespace) -> int:
    """Take the network out of the supernet, write and check the folder, print what is in it."""
    from collm_nas import rundir
    from collm_nas.evaluators import winner
    from collm_nas.supernets import export
    from collm_nas.supernets.export import facts

    out = args.out or args.run / FOLDER
    result, _ = rundir.load(args.run)
    _require_supernet(args.run, result["protocol"])
    if not args.no_onnx:
        export.require()
    export.check_free(out)
    best = winner.reopen(args.run, result, data=args.data, supernet=args.supernet)
    network = best.evaluator.network(best.arch)
    told = facts.of(result, best.evaluator.space, best.evaluator.classes, _weights(args, network, best.native))
    config = export.export_network(network, best.evaluator.inputs(best.arch), out, told, onnx=not args.no_onnx)
    _show(config, out)
    return 0


def _require_supernet(run: Path, protocol: Mapping[str, Any]) -> None:
    if protocol.get("source") != "supernet":
        raise UserError(
            f"{run} was scored by {evaluator_name(protocol)}, which holds no weights; export takes a run of "
            "`collm-nas search --supernet F --data DIR`"
        )


def _weights(args: argparse.Namespace, network: nn.Module, native: str) -> dict[str, Any]:
    """Which weights the network now has; others than the supernet's are put into it."""
    from collm_nas.evaluators import winner
    from collm_nas.supernets.export import facts, weights

    if args.weights == "inherited":
        return facts.INHERITED
    path = args.run / winner.FOLDER / winner.MODEL if args.weights == "retrained" else Path(args.weights)
    if args.weights == "retrained" and not path.is_file():
        raise UserError(f"--weights retrained: there is no {path}; make it by `collm-nas supernet retrain {args.run}`")
    return weights.load(network, path, native)


def _show(config: Mapping[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in _rows(config, out):
        table.add_row(name, Text(value))
    Console(highlight=False, soft_wrap=False).print(table)


def _rows(config: Mapping[str, Any], out: Path) -> list[tuple[str, str]]:
    from collm_nas.supernets.export import card

    sizes = (f"{name} {told['bytes'] / 1e6:.2f} MB" for name, told in config["files"].items())
    worst = (f"{name} {value:.1e}" for name, value in config["check"]["difference"].items())
    return [
        ("network", config["architecture"]["native"]),
        ("costs", card.costs(config["costs"])),
        ("figures", ", ".join(map(_figure, config["accuracies"]))),
        ("weights", config["weights"]["kind"]),
        ("files", ", ".join(sizes)),
        ("difference", f"{', '.join(worst)} of the logits' deviation (allowed {config['check']['tolerance']:g})"),
        ("exported", str(out)),
    ]


def _figure(row: Mapping[str, Any]) -> str:
    error = f" ± {row['error']:.2g}" if "error" in row else ""
    return f"{row['name']} {row['value']:.6g}{error} ({row['use']}, {row['weights']})"
