"""The three files that hold the weights: safetensors, a program for torch alone, ONNX.

In both programs the batch is free, the side of the images fixed. Paths of this machine's source files are taken out of
them; exporters' chatter for their own developers is kept from the terminal.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from collm_nas.api import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from collm_nas.images.inputs import Inputs

SAFETENSORS, PROGRAM, ONNX = "model.safetensors", "model.pt2", "model.onnx"
OPSET = 18
"""Old enough for every runtime of the last years, and what torch's exporter translates to without a conversion."""
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
CHATTY = ("torch.onnx", "torch.export", "torch.fx", "onnxscript")


def write(network: nn.Module, inputs: Inputs, folder: Path, *, onnx: bool) -> dict[str, dict[str, Any]]:
    """Write the files of a network in eval mode; for each its sha256, bytes, and what its reader must know."""
    from safetensors.torch import save

    state = {key: value.detach().clone().contiguous() for key, value in network.state_dict().items()}
    (folder / SAFETENSORS).write_bytes(save(state, {"format": "pt"}))  # save_file would make it the owner's alone
    told: dict[str, dict[str, Any]] = {SAFETENSORS: {"tensors": len(state)}}
    with quiet():
        program = _traced(network, inputs)
        torch.export.save(program, folder / PROGRAM)
        told[PROGRAM] = {"torch": torch.__version__.partition("+")[0]}
        if onnx:
            _write_onnx(program, folder / ONNX)
            told[ONNX] = {"opset": OPSET, "input": INPUT, "output": OUTPUT}
    return {name: {**_identity(folder / name), **more} for name, more in told.items()}


def _identity(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def blank(inputs: Inputs, n: int) -> Tensor:
    """Images of zeros (n, C, side, side)."""
    return torch.zeros(n, inputs.channels, inputs.side, inputs.side)


def _traced(network: nn.Module, inputs: Inputs) -> ExportedProgram:
    """The network as a graph; UserError where torch cannot follow it."""
    batch = torch.export.Dim(BATCH, min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(network, (blank(inputs, 2),), dynamic_shapes=({0: batch},))
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise UserError(
            f"torch.export cannot trace {type(network).__name__} for any number of images ({type(error).__name__}: "
            f"{reason}); its forward must take one tensor and not branch on its values or on its batch"
        ) from None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    program.example_inputs = None  # they would be stored, too
    return program


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    import onnx

    done = torch.onnx.export(
        program, (), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert done is not None
    model = done.model_proto
    _strip(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _strip(graph: Any) -> None:
    """Take out names of our classes and of torch's graph, which no reader needs, and shapes that name the old batch."""
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings and log lines of the exporters."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
