"""The fill rule of the supernets' golden cases: made-up weights and images with the same bits on every machine.

The rule is given with the golden files (`official` field: the code whose logits they hold). `fill` is a golden file's
`fill` entry: {"gain": g, "gain_dw": ..., "gain_se": ...}; a gain it lacks is `gain`.
"""

from __future__ import annotations

import hashlib
import math

import torch

MATRICES = ("7to5_matrix", "5to3_matrix")
TABLES = ("pos_embed", "cls_token", "embeddings_table_h", "embeddings_table_v")


def draw(shape, seed):
    """Approximately normal float64 numbers from exact sums of float32 uniforms."""
    u = torch.rand((4, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float32).double()
    return ((u[0] + u[1]) + (u[2] + u[3]) - 2) * math.sqrt(3)


def images(resolution):
    """The golden cases' two images: float32 (2, 3, resolution, resolution)."""
    return draw((2, 3, resolution, resolution), 7).float()


def fill(shapes, gains):
    """A state dict for `{key: shape}`; key number i in sorted order takes its numbers from seed 1000 + i."""
    return {key: _value(key, tuple(shapes[key]), 1000 + i, gains) for i, key in enumerate(sorted(shapes))}


def _value(key, shape, seed, gains):
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    r = draw(shape, seed)
    if last == "running_var":
        value = 1 + 0.1 * r.abs()
    elif last in ("running_mean", "bias"):
        value = 0.05 * r
    elif last in MATRICES:
        value = 2 * torch.eye(shape[0], dtype=torch.float64) + 0.1 * r
    elif last in TABLES:
        value = 0.5 * r
    elif len(shape) == 1:
        value = 1 + 0.1 * r
    else:
        scale = _gain(key, shape, gains) / math.sqrt(r.numel() / shape[0])  # first: (r * gain) / ... has other bits
        value = r * scale
    return value.float()


def _gain(key, shape, gains):
    if shape[1] == 1 and math.prod(shape[2:]) > 1:
        return gains.get("gain_dw", gains["gain"])
    return gains.get("gain_se", gains["gain"]) if ".se." in key else gains["gain"]


def digest(state):
    """SHA-256 over key, zero byte and raw bytes, in sorted order."""
    sha = hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode() + b"\0" + state[key].numpy().tobytes())
    return sha.hexdigest()


def double(state):
    """The same state dict in float64 (counters stay integers)."""
    return {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
