"""`cifar-stages`: the 2,187 most regular networks of `cifar-mbconv`, few enough that all of them were scored.

A depth for the first and for the last two stages, one kernel, an expansion for each of the four stages. Every
architecture has one spelling, every variable is always active. `data_gen.cifar_table` scored them all on CIFAR-10 with
the weights of one trained supernet; `collm_nas/data/cifar_stages.csv.gz` is the table (docs/CIFAR_MBCONV.md).
"""

from __future__ import annotations

from collm_nas.api import Architecture, Variable
from collm_nas.spaces import ofa_mbv3
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Stages

NAME = "cifar-stages"
DESCRIPTION = (
    "Small MobileNetV3 networks for 32x32 images, of four stages: the depth of the first two and of the last two, one "
    "kernel, the expansion of each stage."
)
DEPTHS, KERNELS, EXPANSIONS = ("1", "2", "3"), ("3", "5", "7"), ("2", "4", "6")
STAGES, SLOTS = 4, 3
VARIABLES = (
    Variable("depth_early", DEPTHS),
    Variable("depth_late", DEPTHS),
    Variable("kernel", KERNELS),
    *(Variable(f"expand{stage + 1}", EXPANSIONS) for stage in range(STAGES)),
)
TEMPLATE = "depth {depth_early} {depth_late} | kernel {kernel} | expand {expand1} {expand2} {expand3} {expand4}"


class CifarStages(CategoricalSpace):
    """The space, with exact costs."""

    def __init__(self) -> None:
        super().__init__(NAME, VARIABLES, template=TEMPLATE, description=DESCRIPTION)
        self.networks = ofa_mbv3.create("cifar-mbconv")
        """The space of its supernet."""

    def in_supernet(self, arch: Architecture) -> Architecture:
        """The same network as an architecture of `cifar-mbconv`, whose supernet has its weights."""
        early, late, kernel, *expands = (
            int(variable.choices[c]) for variable, c in zip(VARIABLES, arch.choices, strict=True)
        )
        return self.networks.parse(
            {"d": [early, early, late, late], "ks": kernel, "e": [e for e in expands for _ in range(SLOTS)]}
        )

    def cost(self, arch: Architecture) -> dict[str, float]:
        """`flops` (multiply-adds of one image) and `params` (trainable)."""
        return self.networks.cost(self.in_supernet(arch))

    def drawing(self, arch: Architecture) -> Stages:
        """As in its supernet's space."""
        return self.networks.drawing(self.in_supernet(arch))


def create() -> CifarStages:
    """The space."""
    return CifarStages()
