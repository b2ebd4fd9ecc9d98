"""AutoFormer (Chen et al., ICCV 2021): a decoded architecture, the supernets it may come from, and its exact costs.

Structure after microsoft/Cream @ 4a13c40 (AutoFormer, run with gp, relative_position, change_qkv): image 224, patch
16, 1000 classes. `params` is that code's own count; `flops` is the plain count of multiply-adds (no norms, no biases),
since the code's `get_complexity`, which nothing calls, counts the relative positions and tokens otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from collm_nas.api import UserError

PATCH, GRID, CLASSES = 16, 14, 1000
TOKENS = GRID * GRID + 1
"""196 patches and the class token."""
HEAD_DIM, MAX_DISTANCE = 64, 14
TABLE_ROWS = 2 * MAX_DISTANCE + 2
"""Relative distances -14 .. 14, and row 0 for pairs with the class token."""
MAX_MLP_RATIO = 4.0

Count = Callable[[int, float], int]
"""A cost of one part of a layer, by embedding width and by its heads or mlp ratio."""


@dataclass(frozen=True, slots=True)
class AutoFormerSize:
    """A supernet: its embedding width, number of layers, and heads per layer (its mlp ratio is 4)."""

    embed_dim: int
    depth: int
    heads: int


SIZES = {
    "tiny": AutoFormerSize(256, 14, 4),
    "small": AutoFormerSize(448, 14, 7),
    "base": AutoFormerSize(640, 16, 10),
}


@dataclass(frozen=True, slots=True)
class AutoFormerConfig:
    """A decoded architecture; the lists are as long as the depth. UserError where they differ in length."""

    embed_dim: int
    mlp_ratios: tuple[float, ...]
    heads: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.mlp_ratios) != len(self.heads):
            raise UserError(
                f"autoformer: mlp_ratios has {len(self.mlp_ratios)} entries and heads {len(self.heads)}, "
                "but both must have one for each layer"
            )

    @property
    def hidden(self) -> tuple[int, ...]:
        """Width between the two linear layers of each feed-forward part."""
        return tuple(int(self.embed_dim * ratio) for ratio in self.mlp_ratios)


def size_of(name: str) -> AutoFormerSize:
    """The supernet called `name`; UserError lists the legal names."""
    if name not in SIZES:
        raise UserError(f"autoformer: size {name!r} must be one of {', '.join(SIZES)}")
    return SIZES[name]


def require_fit(config: AutoFormerConfig, size: AutoFormerSize) -> None:
    """UserError where `config` needs more than the supernet has; values between those of the search space are legal."""
    depth = len(config.heads)
    if not 1 <= depth <= size.depth:
        raise UserError(f"autoformer: depth {depth} must be 1 to {size.depth}, the supernet's")
    _require_whole("embed_dim", config.embed_dim, size.embed_dim)
    for layer, (heads, ratio) in enumerate(zip(config.heads, config.mlp_ratios, strict=True)):
        _require_whole(f"heads of layer {layer}", heads, size.heads)
        if not (0 < ratio <= MAX_MLP_RATIO and config.embed_dim * ratio >= 1):
            raise UserError(
                f"autoformer: mlp ratio of layer {layer}, {ratio!r}, must be above 0 (a hidden width of 1 or more) "
                f"and at most {MAX_MLP_RATIO}, the supernet's"
            )


def _require_whole(name: str, value: float, top: int) -> None:
    if not (isinstance(value, int) and 1 <= value <= top):
        raise UserError(f"autoformer: {name}, {value!r}, must be a whole number from 1 to {top}, the supernet's")


def params(config: AutoFormerConfig) -> int:
    """Weights and biases of the stand-alone network, all of them trainable."""
    return _total(config, fixed_params, attention_params, mlp_params)


def flops(config: AutoFormerConfig) -> int:
    """Multiply-adds for one image; both relative-position products are counted in full, as they are computed."""
    return _total(config, fixed_flops, attention_flops, mlp_flops)


def _total(config: AutoFormerConfig, fixed: Callable[[int], int], attention: Count, mlp: Count) -> int:
    """The parts of one cost, added up."""
    e = config.embed_dim
    return fixed(e) + sum(attention(e, h) for h in config.heads) + sum(mlp(e, r) for r in config.mlp_ratios)


# The parts, for an embedding width `e`: outside the layers, a layer's attention, a layer's feed-forward part.


def fixed_params(e: int) -> int:
    """Patch convolution, class token and positions, last norm, classifier."""
    return (3 * PATCH**2 + 1) * e + (1 + TOKENS) * e + 2 * e + (e + 1) * CLASSES


def attention_params(e: int, heads: float) -> int:
    """With its relative positions and its norm."""
    width = HEAD_DIM * int(heads)
    return (e + 1) * 3 * width + (width + 1) * e + 4 * TABLE_ROWS * HEAD_DIM + 2 * e


def mlp_params(e: int, ratio: float) -> int:
    """Two linear layers and a norm."""
    hidden = int(e * ratio)
    return (e + 1) * hidden + (hidden + 1) * e + 2 * e


def fixed_flops(e: int) -> int:
    """Patch convolution and classifier."""
    return GRID * GRID * 3 * PATCH**2 * e + e * CLASSES


def attention_flops(e: int, heads: float) -> int:
    """Linear layers, and the four products: q.k, q.r_k, attention.v, attention.r_v."""
    width = HEAD_DIM * int(heads)
    return TOKENS * 4 * e * width + 4 * TOKENS * TOKENS * width


def mlp_flops(e: int, ratio: float) -> int:
    """Two linear layers."""
    return TOKENS * 2 * e * int(e * ratio)
