"""Once-for-All's MobileNetV3 space (Cai et al., ICLR 2020): five stages of two to four inverted residual blocks, each
with its kernel and expansion, and the input's resolution. Two smaller spaces of the same build are for small images.

Encoding of mit-han-lab/once-for-all @ f03b267: `ks` and `e` hold 20 values, four slots a stage, of which a stage of
depth d uses its first d; `d` holds five; `r` is a list of one (the search tutorial) or `image_size` an integer (the
package).
Slots out of use still hold values there, so two official encodings can be one network; here they are one architecture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import official
from collm_nas.spaces._ofa_mbv3_costs import (
    PLANS,
    OFAConfig,
    Plan,
    block_of,
    fixed_flops,
    fixed_params,
    flops,
    params,
    side_before,
    tutorial_flops,
)
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Block, Stage, Stages, share
from collm_nas.spaces.terms import Term

NAMES = {
    "ofa-mbv3": {"name": "ofa-mbv3"},
    "ofa-mbv3-w1.2": {"name": "ofa-mbv3-w1.2"},
    "cifar-mbconv": {"name": "cifar-mbconv"},
    "digits-mbconv": {"name": "digits-mbconv"},
}
RESOLUTIONS = {"ofa-mbv3": range(128, 225, 4), "ofa-mbv3-w1.2": range(160, 225, 4)}
"""What each released supernet was trained on."""
SIDES = {"cifar-mbconv": 32, "digits-mbconv": 8}
"""The one input size of the smaller spaces, which do not search it."""
ABOUT = {
    "ofa-mbv3": "A MobileNetV3 of width 1",
    "ofa-mbv3-w1.2": "A MobileNetV3 of width 1.2",
    "cifar-mbconv": "A small MobileNetV3 for 32x32 images",
    "digits-mbconv": "A tiny MobileNetV3 for 8x8 images of digits",
}


def create(
    name: str, resolutions: Iterable[int] | None = None, side: int | None = None, classes: int | None = None
) -> OFASpace:
    """The space of this supernet.

    `resolutions` narrows the input sizes of the released ones, which the search chooses from; `side` is the input size
    of the smaller ones, in place of theirs. `classes`: where the images have another number of them. UserError where
    one of these is illegal.
    """
    plan = PLANS[name] if classes is None else replace(PLANS[name], classes=_positive(name, "classes", classes))
    if name in SIDES:
        if resolutions is not None:
            raise UserError(f"{name}: the resolution is not searched; give side=, one number of pixels")
        return OFASpace(name, plan, [SIDES[name] if side is None else _positive(name, "side", side)])
    if side is not None:
        raise UserError(f"{name}: the resolution is searched; narrow it by resolutions=[{side}] instead of side=")
    return OFASpace(name, plan, _narrowed(name, resolutions))


def _positive(name: str, option: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{name}: {option} must be a whole number of at least 1, but is {value!r}")
    return value


def _narrowed(name: str, resolutions: Iterable[int] | None) -> list[int]:
    trained = RESOLUTIONS[name]
    chosen = sorted(set(trained if resolutions is None else resolutions))
    for resolution in chosen:
        if resolution not in trained:
            raise UserError(
                f"ofa-mbv3: resolution {resolution} must be one of {trained[0]}, {trained[1]}, ..., {trained[-1]}"
            )
    if not chosen:
        raise UserError(f"ofa-mbv3: resolutions must name at least one of {trained[0]}, ..., {trained[-1]}")
    return chosen


class OFASpace(CategoricalSpace):
    """Variables stage by stage (`d1, ks1, e1, ..., ks4, e4, d2, ...`), numbers of slots as in the official lists.

    `parse` takes the official dict, with lists or one number for all, and its text; the native form is that dict's
    text, depths before the slots that they switch on. Where the resolution is not searched, the dict has no `r`.
    """

    def __init__(self, name: str, plan: Plan, resolutions: Sequence[int]) -> None:
        self.plan, self.resolutions = plan, resolutions
        self.searches_resolution = name in RESOLUTIONS
        self._slots, self._depths = plan.slots, _texts(plan.depths)
        sizes = [Variable("r", _texts(resolutions))] if self.searches_resolution else []
        stages: list[list[Variable]] = []
        for stage in range(len(plan.stages)):
            at = self._depth_position(stage)
            block = [Variable(f"d{stage + 1}", self._depths)]
            for slot in range(self._slots):
                number = stage * self._slots + slot + 1
                on = self._used(at, slot)
                block += [
                    Variable(f"ks{number}", _texts(plan.kernels), on),
                    Variable(f"e{number}", _texts(plan.expands), on),
                ]
            stages.append(block)
        super().__init__(
            name,
            [*sizes, *(variable for block in stages for variable in block)],
            description=(
                f"{ABOUT[name]}: {'input resolution r; ' if sizes else ''}in each of {len(stages)} stages depth d, and "
                "for each of its blocks the kernel ks and the expansion e."
            ),
            native=self._as_listed(name, sizes),
        )

    def _depth_position(self, stage: int) -> int:
        """The position of a stage's depth among the variables."""
        return self.searches_resolution + stage * (1 + 2 * self._slots)

    def spec(self) -> dict[str, Any]:
        """The definition, with the option that `create` needs."""
        return {**super().spec(), "options": self.options}

    @property
    def options(self) -> dict[str, Any]:
        """What `create` needs besides the name, to make this space again."""
        chosen: dict[str, Any] = {"resolutions": list(self.resolutions)}
        if not self.searches_resolution:
            chosen = {"side": self.resolutions[0]}
        elif chosen["resolutions"] == list(RESOLUTIONS[self.name]):
            chosen = {}
        return chosen if self.plan.classes == PLANS[self.name].classes else {**chosen, "classes": self.plan.classes}

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture of an official encoding; ValueError names the variable and its legal values."""
        if encoding == "compact":
            return super().parse(encoded, encoding)
        value = official.value(encoded)
        if isinstance(value, Mapping) and {"ks", "e", "d"} & set(map(str, value)):
            return self._from_official(value)
        return super().parse(value, encoding)

    def _from_official(self, given: Mapping[Any, Any]) -> Architecture:
        unknown = sorted(set(map(str, given)) - {"wid", "ks", "e", "d", "r", "image_size"})
        if unknown:
            raise UserError(
                f"{self.name}: unknown key {unknown[0]!r}; the official ones are ks, e, d and r or image_size"
            )
        if given.get("wid") is not None:
            raise UserError(f"{self.name}: 'wid' must be None, for a space has one width; got {given['wid']!r}")
        stages, slots = len(self.plan.stages), self._slots
        kernels, expands, depths = (
            self._numbers(given, key, n) for key, n in (("ks", stages * slots), ("e", stages * slots), ("d", stages))
        )
        named: dict[str, Any] = self._resolution(given)
        for stage, depth in enumerate(depths):
            named[f"d{stage + 1}"] = depth
            used = self.plan.depths[self.position(self._depth_position(stage), depth)]
            for slot in range(stage * slots, stage * slots + used):
                named |= {f"ks{slot + 1}": kernels[slot], f"e{slot + 1}": expands[slot]}
        return super().parse(named)

    def _resolution(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        keys = [key for key in ("r", "image_size") if key in given]
        if not self.searches_resolution:
            if keys:
                raise UserError(f"{self.name}: {keys[0]!r} is not searched here; leave it out")
            return {}
        if len(keys) != 1:
            raise UserError(f"{self.name}: exactly one of the keys 'r' and 'image_size' must give the resolution")
        [resolution] = self._numbers(given, keys[0], 1)
        return {"r": resolution}

    def _numbers(self, given: Mapping[Any, Any], key: str, n: int) -> list[Any]:
        """The `n` values of a key; one number stands for all."""
        if key not in given:
            raise UserError(f"{self.name}: the key {key!r} is missing; an encoding has ks, e, d and r or image_size")
        value = given[key].tolist() if hasattr(given[key], "tolist") else given[key]
        if not isinstance(value, list | tuple):
            return [value] * n
        if len(value) != n:
            raise UserError(f"{self.name}: {key!r} must hold {n} numbers, but holds {len(value)}")
        return list(value)

    def official(self, arch: Architecture) -> dict[str, list[int]]:
        """The official dict with `ks`, `e`, `d` and, where it is searched, `r`; slots out of use hold the smallest
        values."""
        named = {v.name: int(v.choices[c]) for v, c in zip(self.variables, arch.choices, strict=True)}
        stages = len(self.plan.stages)
        listed = {
            "ks": [named[f"ks{i + 1}"] for i in range(stages * self._slots)],
            "e": [named[f"e{i + 1}"] for i in range(stages * self._slots)],
            "d": [named[f"d{i + 1}"] for i in range(stages)],
        }
        return {**listed, "r": [named["r"]]} if self.searches_resolution else listed

    def config(self, arch: Architecture) -> OFAConfig:
        """The architecture's numbers, all slots included."""
        named = self.official(arch)
        [resolution] = named.get("r", self.resolutions)
        return OFAConfig(resolution, tuple(named["d"]), tuple(named["ks"]), tuple(named["e"]))

    def cost(self, arch: Architecture) -> dict[str, float]:
        """`flops` (multiply-adds of convolutions and linear layers) and `params` of the stand-alone network."""
        config = self.config(arch)
        return {"flops": flops(config, self.plan), "params": params(config, self.plan)}

    def drawing(self, arch: Architecture) -> Stages:
        """Its blocks, stage by stage; shade for the kernel, height for the expansion."""
        config, plan = self.config(arch), self.plan
        stages = []
        for i, depth in enumerate(config.depths):
            slots = range(i * self._slots, i * self._slots + depth)
            side = side_before(plan, config.resolution, slots[0] + 1)
            note = f"{plan.channels.stages[i]} channels, {side} x {side}"
            stages.append(Stage(f"stage {i + 1}", note, tuple(self._block(config, slot) for slot in slots)))
        size = f"{config.resolution} x {config.resolution}"
        return Stages(
            tuple(stages),
            "Each block is an inverted residual: kernel by shade, expansion by height.",
            f"Input {size}, a convolution and a block that are not searched before, {plan.classes} classes after",
        )

    def _block(self, config: OFAConfig, slot: int) -> Block:
        kernel, expand = config.kernels[slot], config.expands[slot]
        height = share(expand, tuple(map(float, self.plan.expands)))
        return Block(f"{kernel} x {kernel}", f"expand {expand}", height, 1 + self.plan.kernels.index(kernel))

    def terms(self, cost: str) -> list[Term] | None:
        """A constant and a term for each block, over its kernel and expansion; of `flops` over the resolution too."""
        if cost not in ("flops", "params"):
            return None
        by_size = cost == "flops" and self.searches_resolution
        sizes: dict[tuple[int, ...], int] = {(i,): r for i, r in enumerate(self.resolutions)}
        sizes = sizes if by_size else {(): self.resolutions[0]}
        size = (0,) if by_size else ()
        fixed = {
            at: fixed_flops(self.plan, r) if cost == "flops" else fixed_params(self.plan) for at, r in sizes.items()
        }
        terms = [Term(size, fixed)]
        for slot in range(self._slots * len(self.plan.stages)):
            stage, j = divmod(slot, self._slots)
            kernel = self._depth_position(stage) + 1 + 2 * j
            terms.append(Term((*size, kernel, kernel + 1), self._block_costs(slot, cost, sizes)))
        return terms

    def _block_costs(self, slot: int, cost: str, sizes: Mapping[tuple[int, ...], int]) -> dict[tuple[int, ...], int]:
        """The cost of a slot's block by (the resolution's choice, if `sizes` has any, and) kernel and expansion."""
        costs = {}
        for (k, kernel), (e, expand) in itertools.product(enumerate(self.plan.kernels), enumerate(self.plan.expands)):
            block = block_of(self.plan, slot, kernel, expand)
            for at, resolution in sizes.items():
                side = side_before(self.plan, resolution, slot)
                costs[(*at, k, e)] = block.multiply_adds(side) if cost == "flops" else block.params
        return costs

    def tutorial_flops(self, arch: Architecture) -> int:
        """The look-up table's FLOPs of the official search tutorial, made for width 1.2; the CoLLM-NAS paper's caps are
        in these. UserError for another width."""
        if self.name != "ofa-mbv3-w1.2":
            raise UserError(f"{self.name}: the tutorial's table is for ofa-mbv3-w1.2 alone; take cost(arch)['flops']")
        return tutorial_flops(self.config(arch))

    def _used(self, depth: int, slot: int) -> tuple[tuple[int, frozenset[int]], ...]:
        """The condition on the depth at this position under which a stage uses a slot."""
        deep_enough = frozenset(i for i, d in enumerate(self.plan.depths) if d > slot)
        return () if len(deep_enough) == len(self.plan.depths) else ((depth, deep_enough),)

    def _as_listed(self, name: str, sizes: list[Variable]) -> CategoricalSpace:
        """The same variables in the order of the native text."""
        stages = len(self.plan.stages)
        slots = [
            (i + 1, self._used(len(sizes) + i // self._slots, i % self._slots)) for i in range(stages * self._slots)
        ]
        listed = {
            "r": sizes,
            "d": [Variable(f"d{stage + 1}", self._depths) for stage in range(stages)],
            "ks": [Variable(f"ks{number}", _texts(self.plan.kernels), on) for number, on in slots],
            "e": [Variable(f"e{number}", _texts(self.plan.expands), on) for number, on in slots],
        }
        fields = (
            f'"{key}": [' + ", ".join("{" + v.name + "}" for v in row) + "]" for key, row in listed.items() if row
        )
        ordered = [v for row in listed.values() for v in row]
        return CategoricalSpace(name, ordered, template="{{" + ", ".join(fields) + "}}")


def _texts(values: Iterable[int]) -> tuple[str, ...]:
    return tuple(map(str, values))
