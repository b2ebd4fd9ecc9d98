"""Weight-sharing supernets by the name of their space: official checkpoints in, stand-alone networks out.

A supernet is one file here with `create(space, state)` and `shapes(space)`, named like the file of its space in
`collm_nas.spaces`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from collm_nas import spaces
from collm_nas.api import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from collm_nas.spaces.base import CategoricalSpace
    from collm_nas.supernets.base import Supernet
    from collm_nas.supernets.checkpoint import Source
    from collm_nas.supernets.recalibration import Procedure

__all__ = ["fresh", "load", "names", "recalibrate"]


def names() -> list[str]:
    """The spaces that have a supernet, sorted."""
    return [name for name in spaces.names() if _file(name).is_file()]


def load(space: str | CategoricalSpace, source: Source, **options: Any) -> Supernet:
    """The supernet of a space (by name, with the space's options, or the space itself) with the weights of `source`.

    `source` is the path of an official checkpoint or of a safetensors file, what `torch.load` gives for one, or a state
    dict; the dtype of its tensors is kept. Raises UserError (a ValueError) where the space has no supernet, the file is
    refused, or a key is missing, unexpected or of another shape.
    """
    whole = spaces.load(space, **options) if isinstance(space, str) else space
    module = _module(whole)
    from collm_nas.supernets import checkpoint

    return cast("Supernet", module.create(whole, checkpoint.read(source)))


def fresh(space: CategoricalSpace, seed: int = 0) -> Supernet:
    """The supernet of a space as a training begins it, its tensors drawn by the seed; UserError where it has none."""
    from collm_nas.supernets import initial

    module = _module(space)
    return cast("Supernet", module.create(space, initial.draw(module.shapes(space), seed)))


def recalibrate(module: nn.Module, batches: Iterable[Tensor], protocol: Procedure) -> nn.Module:
    """BatchNorm statistics of a stand-alone network from batches of images: see `supernets.recalibration`."""
    from collm_nas.supernets import recalibration

    return recalibration.recalibrate(module, batches, protocol)


def _module(space: CategoricalSpace) -> Any:
    file = _file(space.name)
    if not file.is_file():
        raise UserError(f"space {space.name!r} has no supernet; those that have: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{file.stem}")


def _file(name: str) -> Path:
    return Path(__file__).parent / f"{spaces.module_of(name)}.py"
