"""Single Path One-Shot's ShuffleNetV2 space (Guo et al., ECCV 2020): 20 blocks of four kinds, 4^20 networks.

Encoding and order are those of megvii-model/SinglePathOneShot @ 36eed6c: block by block 0 = shuffle block 3x3, 1 = 5x5,
2 = 7x7, 3 = Xception block. The paper's search over channels is in neither the released code nor its checkpoint.
"""

from __future__ import annotations

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import official
from collm_nas.spaces._spos_shufflenet_costs import COSTS, SPOSConfig
from collm_nas.spaces.base import CategoricalSpace

BLOCKS = 20


def create() -> SPOSSpace:
    """The space; costs `flops` (multiply-adds at 224 pixels) and `params` are the stand-alone network's."""
    return SPOSSpace()


class SPOSSpace(CategoricalSpace):
    """`parse` takes the official tuple or list of 20 integers, and its text with or without brackets."""

    def __init__(self) -> None:
        super().__init__(
            "spos-shufflenet",
            [Variable(f"b{i + 1}", ("0", "1", "2", "3")) for i in range(BLOCKS)],
            template="(" + ", ".join(f"{{b{i + 1}}}" for i in range(BLOCKS)) + ")",
            description=(
                "A ShuffleNetV2 for 224x224 images: 20 blocks in stages of 4, 4, 8 and 4; each is a shuffle block with "
                "kernel 3 (0), 5 (1) or 7 (2), or an Xception block (3)."
            ),
            costs=COSTS,
        )

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture of the official 20 integers; ValueError names the block and its legal values."""
        if encoding == "compact":
            return super().parse(encoded, encoding)
        value = official.value(encoded)
        if isinstance(value, list | tuple) and len(value) != BLOCKS:
            raise UserError(f"{self.name}: 20 integers 0..3 are expected, one a block, but got {len(value)}")
        return super().parse(value, encoding)

    def config(self, arch: Architecture) -> SPOSConfig:
        """The kind of every block."""
        return SPOSConfig(arch.choices)
