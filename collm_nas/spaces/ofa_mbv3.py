"""Once-for-All's MobileNetV3 space (Cai et al., ICLR 2020): five stages of two to four inverted residual blocks, each
with its kernel and expansion, and the input's resolution.

Encoding of mit-han-lab/once-for-all @ f03b267: `ks` and `e` hold 20 values, four slots a stage, of which a stage of
depth d uses its first d; `d` holds five; `r` is a list of one (the search tutorial) or `image_size` an integer (the
package).
Slots out of use still hold values there, so two official encodings can be one network; here they are one architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import official
from collm_nas.spaces._ofa_mbv3_costs import OFAConfig, flops, params, tutorial_flops
from collm_nas.spaces.base import CategoricalSpace

NAMES = {
    "ofa-mbv3": {"width": 1.0},
    "ofa-mbv3-w1.2": {"width": 1.2},
}
STAGES, SLOTS = 5, 4
KERNELS, EXPANDS, DEPTHS = ("3", "5", "7"), ("3", "4", "6"), ("2", "3", "4")
RESOLUTIONS = {1.0: range(128, 225, 4), 1.2: range(160, 225, 4)}
"""What each supernet was trained on, by its width."""


def create(width: float, resolutions: Iterable[int] | None = None) -> OFASpace:
    """The space of the supernet of this width; `resolutions` narrows the input sizes to some of those."""
    trained = RESOLUTIONS[width]
    chosen = sorted(set(trained if resolutions is None else resolutions))
    for resolution in chosen:
        if resolution not in trained:
            raise UserError(
                f"ofa-mbv3: resolution {resolution} must be one of {trained[0]}, {trained[1]}, ..., {trained[-1]}"
            )
    if not chosen:
        raise UserError(f"ofa-mbv3: resolutions must name at least one of {trained[0]}, ..., {trained[-1]}")
    return OFASpace(width, chosen, None if resolutions is None else chosen)


class OFASpace(CategoricalSpace):
    """Variables stage by stage (`d1, ks1, e1, ..., ks4, e4, d2, ...`), numbers of slots as in the official lists.

    `parse` takes the official dict, with lists or one number for all, and its text; the native form is that dict's
    text, depths before the slots that they switch on.
    """

    def __init__(self, width: float, resolutions: Sequence[int], narrowed: Sequence[int] | None) -> None:
        self.width, self._narrowed = width, narrowed
        name = next(name for name, options in NAMES.items() if options["width"] == width)
        sizes = Variable("r", tuple(map(str, resolutions)))
        stages: list[list[Variable]] = []
        for stage in range(STAGES):
            depth = 1 + stage * (1 + 2 * SLOTS)  # its position
            block = [Variable(f"d{stage + 1}", DEPTHS)]
            for slot in range(SLOTS):
                number = stage * SLOTS + slot + 1
                on = _used(depth, slot)
                block += [Variable(f"ks{number}", KERNELS, on), Variable(f"e{number}", EXPANDS, on)]
            stages.append(block)
        super().__init__(
            name,
            [sizes, *(variable for block in stages for variable in block)],
            description=(
                f"A MobileNetV3 of width {width:g}: input resolution r; in each of five stages depth d, and for each "
                "of its blocks the kernel ks and the expansion e."
            ),
            native=_as_listed(name, sizes),
        )

    def spec(self) -> dict[str, Any]:
        """The definition, with the option that `create` needs."""
        return {**super().spec(), "options": {"resolutions": self._narrowed}}

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
        if ("r" in given) == ("image_size" in given):
            raise UserError(f"{self.name}: exactly one of the keys 'r' and 'image_size' must give the resolution")
        if given.get("wid") is not None:
            raise UserError(f"{self.name}: 'wid' must be None, for a space has one width; got {given['wid']!r}")
        kernels, expands, depths = (
            self._numbers(given, key, n) for key, n in (("ks", STAGES * SLOTS), ("e", STAGES * SLOTS), ("d", STAGES))
        )
        [resolution] = self._numbers(given, "r" if "r" in given else "image_size", 1)
        named: dict[str, Any] = {"r": resolution}
        for stage, depth in enumerate(depths):
            named[f"d{stage + 1}"] = depth
            used = self.position(1 + stage * (1 + 2 * SLOTS), depth) + int(DEPTHS[0])
            for slot in range(stage * SLOTS, stage * SLOTS + used):
                named |= {f"ks{slot + 1}": kernels[slot], f"e{slot + 1}": expands[slot]}
        return super().parse(named)

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
        """The official dict with `ks`, `e`, `d` and `r`; slots out of use hold the smallest values."""
        named = {v.name: int(v.choices[c]) for v, c in zip(self.variables, arch.choices, strict=True)}
        return {
            "ks": [named[f"ks{i + 1}"] for i in range(STAGES * SLOTS)],
            "e": [named[f"e{i + 1}"] for i in range(STAGES * SLOTS)],
            "d": [named[f"d{i + 1}"] for i in range(STAGES)],
            "r": [named["r"]],
        }

    def config(self, arch: Architecture) -> OFAConfig:
        """The architecture's numbers, all 20 slots included."""
        named = self.official(arch)
        return OFAConfig(named["r"][0], tuple(named["d"]), tuple(named["ks"]), tuple(named["e"]))

    def cost(self, arch: Architecture) -> dict[str, float]:
        """`flops` (multiply-adds of convolutions and linear layers) and `params` of the stand-alone network."""
        config = self.config(arch)
        return {"flops": flops(config, self.width), "params": params(config, self.width)}

    def tutorial_flops(self, arch: Architecture) -> int:
        """The look-up table's FLOPs of the official search tutorial, made for width 1.2; the CoLLM-NAS paper's caps are
        in these. UserError for another width."""
        if self.width != 1.2:
            raise UserError(f"{self.name}: the tutorial's table is for ofa-mbv3-w1.2 alone; take cost(arch)['flops']")
        return tutorial_flops(self.config(arch))


def _used(depth: int, slot: int) -> tuple[tuple[int, frozenset[int]], ...]:
    """The condition on the depth at this position under which a stage uses a slot."""
    deep_enough = frozenset(i for i, d in enumerate(DEPTHS) if int(d) > slot)
    return () if len(deep_enough) == len(DEPTHS) else ((depth, deep_enough),)


def _as_listed(name: str, sizes: Variable) -> CategoricalSpace:
    """The same variables in the order of the native text."""
    depths = [Variable(f"d{stage + 1}", DEPTHS) for stage in range(STAGES)]
    slots = [(i + 1, _used(1 + i // SLOTS, i % SLOTS)) for i in range(STAGES * SLOTS)]
    kernels = [Variable(f"ks{number}", KERNELS, on) for number, on in slots]
    expands = [Variable(f"e{number}", EXPANDS, on) for number, on in slots]
    listed = {"r": [sizes], "d": depths, "ks": kernels, "e": expands}
    fields = (f'"{key}": [' + ", ".join("{" + v.name + "}" for v in row) + "]" for key, row in listed.items())
    return CategoricalSpace(name, [v for row in listed.values() for v in row], template="{{" + ", ".join(fields) + "}}")
