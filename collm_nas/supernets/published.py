"""Subnets whose accuracy with inherited weights is published, on the 50,000 validation images of ImageNet.

They hold a file of weights, and our reading of it, against other people's figures (`collm-nas supernet verify`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One subnet. `arch`: its official encoding; `accuracy`: top-1 in percent with inherited weights, None where that
    is not published; `tolerance`: by how much another machine's may differ, in percent; `costs`: as published."""

    name: str
    space: str
    protocol: str
    arch: Any
    accuracy: float | None
    tolerance: float
    costs: dict[str, int]
    source: str


AUTOFORMER = "microsoft/Cream @ 4a13c40, AutoFormer/README.md and experiments/subnet/*.yaml, section RETRAIN"
EXACT = 0.2
"""The same weights by the same protocol: what rounding of the figure, half precision and JPEG decoders can make."""


def _autoformer(
    size: str, accuracy: float, params: int, ratios: tuple[float, ...], heads: tuple[int, ...], width: int
) -> Published:
    space, arch = f"autoformer-{size}", (len(ratios), *ratios, *heads, width)
    return Published(space, space, "autoformer", arch, accuracy, EXACT, {"params": params}, AUTOFORMER)


TABLE_2 = "arXiv 2509.26037v2, Tables 2 and 3 and the printed architectures"
LOOSE = 0.6
"""A paper's figures, whose re-calibration images are not told."""


def _ofa(name: str, accuracy: float, resolution: int, depths: str, kernels: str, expands: str, table: int) -> Published:
    """`table`: its FLOPs by the OFA tutorial's table, in 1e5."""
    listed = {key: [*map(int, digits)] for key, digits in (("d", depths), ("ks", kernels), ("e", expands))}
    return Published(
        f"CoLLM-NAS {name}", "ofa-mbv3-w1.2", "ofa", {**listed, "r": [resolution]}, accuracy, LOOSE,
        {"tutorial_flops": table * 100_000}, TABLE_2,
    )  # fmt: skip


SPOS = "megvii-model/SinglePathOneShot @ 36eed6c, README.md: 74.4 is of the network trained anew"

PUBLISHED = (
    _autoformer(
        "tiny", 75.3, 5_867_944,
        (3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5), (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3), 192,
    ),
    _autoformer(
        "small", 81.7, 22_891_432,
        (3.0, 3.5, 3.0, 3.5, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.5, 4.0), (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7), 384,
    ),
    _autoformer(
        "base", 82.4, 53_691_688,
        (3.5, 3.5, 4.0, 3.5, 4.0, 3.5, 3.5, 3.0, 4.0, 4.0, 3.0, 4.0, 3.0, 3.5),
        (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10), 576,
    ),
    _ofa("T", 75.9, 176, "23234", "33535335777775373337", "33444443444644446643", 1997),
    _ofa("S", 77.6, 208, "33334", "33335555333355753377", "33333333444444446633", 2973),
    _ofa("S*", 77.9, 208, "33433", "55555555555555373333", "33333333444444446663", 3195),
    _ofa("B", 78.5, 208, "34444", "35375533557575337575", "33333463643464446663", 3908),
    _ofa("L", 79.0, 224, "24444", "75355537573337735335", "34344643666346636663", 4976),
    Published(
        "spos-shufflenet", "spos-shufflenet", "spos", (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3),
        None, 0.0, {"flops": 322_918_720, "params": 3_558_464}, SPOS,
    ),
)  # fmt: skip


def of(space: str) -> list[Published]:
    """The subnets that are published for a space."""
    return [subnet for subnet in PUBLISHED if subnet.space == space]
