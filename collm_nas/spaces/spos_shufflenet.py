"""Single Path One-Shot's ShuffleNetV2 space (Guo et al., ECCV 2020): 20 blocks of four kinds, 4^20 networks.

Encoding and order are those of megvii-model/SinglePathOneShot @ 36eed6c: block by block 0 = shuffle block 3x3, 1 = 5x5,
2 = 7x7, 3 = Xception block. The paper's search over channels is in neither the released code nor its checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import official
from collm_nas.spaces._spos_shufflenet_costs import KERNELS, PLANS, XCEPTION, SPOSConfig, costs
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Block, Stage, Stages

NAMES = {
    "spos-shufflenet": {"name": "spos-shufflenet"},
    "cifar-shufflenet": {"name": "cifar-shufflenet"},
}


def create(name: str, side: int | None = None, classes: int | None = None) -> SPOSSpace:
    """The space of the published supernet, or the smaller one of the same build; costs `flops` (multiply-adds) and
    `params` are the stand-alone network's.

    `side`, `classes`: input size and number of classes in place of the space's own. UserError where one is illegal.
    """
    return SPOSSpace(name, side, classes)


class SPOSSpace(CategoricalSpace):
    """`parse` takes the official tuple or list of integers, one a block, and its text with or without brackets."""

    def __init__(self, name: str, side: int | None, classes: int | None) -> None:
        asked = {"side": side, "classes": classes}
        given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        plan = PLANS[name]
        smallest = plan.stem_stride * 2 ** len(plan.stages)
        for option, least in (("classes", 1), ("side", smallest)):
            value = given.get(option, least)
            if not isinstance(value, int) or value < least or (option == "side" and value % smallest):
                what = f"a multiple of {smallest}" if option == "side" else "a whole number of at least 1"
                raise UserError(f"{name}: {option} must be {what}, but is {value!r}")
        self.plan = replace(plan, **given)
        self.options: dict[str, Any] = {k: v for k, v in given.items() if v != getattr(plan, k)}
        self._blocks = len(plan.blocks)
        stages = [str(repeats) for repeats, _ in plan.stages]
        super().__init__(
            name,
            [Variable(f"b{i + 1}", ("0", "1", "2", "3")) for i in range(self._blocks)],
            template="(" + ", ".join(f"{{b{i + 1}}}" for i in range(self._blocks)) + ")",
            description=(
                f"A ShuffleNetV2 for {self.plan.side}x{self.plan.side} images: {self._blocks} blocks in stages of "
                f"{', '.join(stages[:-1])} and {stages[-1]}; each is a shuffle block with kernel 3 (0), 5 (1) or 7 "
                "(2), or an Xception block (3)."
            ),
            costs=costs(self.plan),
        )

    def spec(self) -> dict[str, Any]:
        """The definition, with the options that `create` needs."""
        return {**super().spec(), **({"options": self.options} if self.options else {})}

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture of the official integers; ValueError names the block and its legal values."""
        if encoding == "compact":
            return super().parse(encoded, encoding)
        value = official.value(encoded)
        if isinstance(value, list | tuple) and len(value) != self._blocks:
            raise UserError(
                f"{self.name}: {self._blocks} integers 0..3 are expected, one a block, but got {len(value)}"
            )
        return super().parse(value, encoding)

    def config(self, arch: Architecture) -> SPOSConfig:
        """The kind of every block."""
        return SPOSConfig(arch.choices)

    def drawing(self, arch: Architecture) -> Stages:
        """Its blocks, stage by stage, the kind by shade."""
        kinds = [*(f"{k} x {k}" for k in KERNELS), "xception"]
        stages, first, side = [], 0, self.plan.side // self.plan.stem_stride
        for i, (repeats, channels) in enumerate(self.plan.stages):
            side //= 2
            chosen = arch.choices[first : first + repeats]
            blocks = tuple(Block(kinds[c], "three 3 x 3" if c == XCEPTION else "shuffle", 1.0, 1 + c) for c in chosen)
            stages.append(Stage(f"stage {i + 1}", f"{channels} channels, {side} x {side}", blocks))
            first += repeats
        return Stages(
            tuple(stages),
            "Each block halves its channels between a branch that is kept and one with this operation; kind by shade.",
            f"Input {self.plan.side} x {self.plan.side}, a convolution before and after, {self.plan.classes} classes",
        )
