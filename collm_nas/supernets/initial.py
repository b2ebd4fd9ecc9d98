"""Where a supernet's training starts: fresh tensors for its keys, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

EMBEDDINGS = ("cls_token", "pos_embed", "embeddings_table_v", "embeddings_table_h")
"""Last parts of keys of learned vectors, which start small."""


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Key -> float32 tensor (a counter of batches: int64).

    Convolutions by He's rule over their outputs, linear layers and embeddings with deviation 0.02, BatchNorm and
    LayerNorm as the identity, biases zero; matrices between kernels (`7to5_matrix`) as the identity, a plain crop.
    """
    generator = torch.Generator().manual_seed(seed)
    return {key: _tensor(key, shape, generator) for key, shape in shapes.items()}


def _tensor(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    name = key.rpartition(".")[2]
    if name == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("_matrix"):
        return torch.eye(shape[0])
    if name in EMBEDDINGS:
        return torch.empty(shape).normal_(std=0.02, generator=generator)
    if name == "running_var" or (name == "weight" and len(shape) == 1):
        return torch.ones(shape)
    if name != "weight":  # biases, running means
        return torch.zeros(shape)
    if len(shape) == 4:
        outputs = shape[0] * math.prod(shape[2:]) if shape[1] > 1 else math.prod(shape[2:])  # depthwise: one each
        return torch.empty(shape).normal_(std=math.sqrt(2 / outputs), generator=generator)
    return torch.empty(shape).normal_(std=0.02, generator=generator)
