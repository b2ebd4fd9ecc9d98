"""`collm-nas supernet verify`: an official file held against the published figures, subnet by subnet."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from collm_nas.cli.search import whole

if TYPE_CHECKING:
    from collm_nas.evaluators.verification import Finding

ROW = "{:<18} {:>9} {:>15} {:>10}  {}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the images."""
    parser.add_argument(
        "--supernet", required=True, metavar="F", help="an official checkpoint, or what import made of it"
    )
    parser.add_argument(
        "--data", required=True, metavar="IMAGENET", help="folder with train/CLASS and val/CLASS, or Parquet files"
    )
    parser.add_argument("--space", metavar="S", help="for files that do not name it")
    parser.add_argument(
        "--images", type=whole, metavar="N", help="score on N random validation images, with a wider tolerance"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int:
    """A line a subnet; exit status 1 if one is outside of its tolerance."""
    from collm_nas.evaluators import verification

    found = verification.verify(args.supernet, args.data, space=args.space, limit=args.images, device=args.device)
    outside = 0
    for i, finding in enumerate(found):
        if not i:
            print(ROW.format("name", "published", "found", "tolerance", "verdict"))
        print(_row(finding), flush=True)
        outside += finding.agrees is False
    return 1 if outside else 0


def _row(finding: Finding) -> str:
    subnet, score = finding.subnet, finding.score
    found = f"{score.accuracy:.2f} ± {score.error:.2f}"
    if subnet.accuracy is None:
        return ROW.format(subnet.name, "none", found, "-", f"not judged ({subnet.source})")
    verdict = "agrees" if finding.agrees else "OUTSIDE"
    return ROW.format(subnet.name, f"{subnet.accuracy:.1f}", found, f"{finding.tolerance:.2f}", verdict)
