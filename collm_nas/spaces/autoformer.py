"""AutoFormer's vision transformer spaces (Chen et al., ICCV 2021): depth, one embedding width, and for each layer an
MLP ratio and a number of heads.

Encoding and order are those of the official search (microsoft/Cream @ 4a13c40, AutoFormer/evolution.py): the flat tuple
(depth, MLP ratio of each layer, heads of each layer, embedding width), of 2 * depth + 2 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collm_nas.api import Architecture, Encoding, UserError, Variable
from collm_nas.spaces import _autoformer_costs as costs
from collm_nas.spaces import official
from collm_nas.spaces._autoformer_costs import AutoFormerConfig, flops, params
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.spaces.drawing import Block, Stage, Stages, share
from collm_nas.spaces.terms import Term

NAMES = {
    "autoformer-tiny": {"size": "tiny"},
    "autoformer-small": {"size": "small"},
    "autoformer-base": {"size": "base"},
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What one size leaves open; numbers as the official files write them."""

    depths: tuple[str, ...]
    ratios: tuple[str, ...]
    heads: tuple[str, ...]
    widths: tuple[str, ...]


SIZES = {
    "tiny": Choices(("12", "13", "14"), ("3.0", "3.5", "4.0"), ("3", "4"), ("192", "216", "240")),
    "small": Choices(("12", "13", "14"), ("3.0", "3.5", "4.0"), ("5", "6", "7"), ("320", "384", "448")),
    "base": Choices(("14", "15", "16"), ("3.0", "3.5", "4.0"), ("8", "9", "10"), ("528", "576", "624")),
}
"""Tiny with ratio 3.0 and base with 8 heads, which published subnets need and the repository's search tables lack."""

OFFICIAL = {
    "tiny": Choices(("12", "13", "14"), ("3.5", "4.0"), ("3", "4"), ("192", "216", "240")),
    "small": SIZES["small"],
    "base": Choices(("14", "15", "16"), ("3.0", "3.5", "4.0"), ("9", "10"), ("528", "576", "624")),
}
"""The tables of the repository's experiments/supernet/*.yaml."""

PARTS = {
    "flops": (costs.fixed_flops, costs.attention_flops, costs.mlp_flops),
    "params": (costs.fixed_params, costs.attention_params, costs.mlp_params),
}
"""What each cost is the sum of, by the embedding width: outside the layers, attention and MLP of each layer."""

_SPELLINGS = {
    "depth": ("depth", "layer_num"),
    "mlp_ratio": ("mlp_ratio",),
    "num_heads": ("num_heads",),
    "embed_dim": ("embed_dim",),
}
"""Keys of the model's configuration, and of a YAML file's RETRAIN section in small letters."""


def create(size: str, official_repo: bool = False) -> AutoFormerSpace:
    """The space of a size; `official_repo` narrows it to the table of the official repository."""
    return AutoFormerSpace(size, bool(official_repo))


class AutoFormerSpace(CategoricalSpace):
    """`parse` takes the flat list or tuple, the model's configuration (a dict), and the text of either."""

    def __init__(self, size: str, official_repo: bool) -> None:
        self.size_name, self.official_repo = size, official_repo
        table = (OFFICIAL if official_repo else SIZES)[size]
        deepest = int(table.depths[-1])
        layers = [self._condition(table, layer) for layer in range(deepest)]
        variables = [Variable("depth", table.depths)]
        variables += [Variable(f"mlp{i + 1}", table.ratios, on) for i, on in enumerate(layers)]
        variables += [Variable(f"heads{i + 1}", table.heads, on) for i, on in enumerate(layers)]
        variables += [Variable("embed_dim", table.widths)]
        super().__init__(
            f"autoformer-{size}",
            variables,
            template="(" + ", ".join("{" + v.name + "}" for v in variables) + ")",
            omit_inactive=True,
            description=(
                "A vision transformer for 224x224 images: depth, one embedding width for all layers, and for each "
                "layer the MLP's expansion ratio and the number of heads of 64 channels."
            ),
        )
        self.deepest = deepest

    @staticmethod
    def _condition(table: Choices, layer: int) -> tuple[tuple[int, frozenset[int]], ...]:
        deep_enough = frozenset(i for i, depth in enumerate(table.depths) if int(depth) > layer)
        return () if len(deep_enough) == len(table.depths) else ((0, deep_enough),)

    def spec(self) -> dict[str, Any]:
        """The definition, with the option that `create` needs."""
        return {**super().spec(), "options": self.options}

    @property
    def options(self) -> dict[str, Any]:
        """What `create` needs besides the name, to make this space again."""
        return {"official_repo": self.official_repo}

    def parse(self, encoded: object, encoding: Encoding = "native") -> Architecture:
        """The architecture of an official encoding; ValueError names the variable and its legal values."""
        if encoding == "compact":
            return super().parse(encoded, encoding)
        value = official.value(encoded)
        if isinstance(value, Mapping) and not set(map(str, value)) & {v.name for v in self.variables[1:-1]}:
            value = self._flat(value)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            return self._from_flat(value)
        return super().parse(value, encoding)

    def _flat(self, config: Mapping[Any, Any]) -> list[Any]:
        given = {str(key).lower(): value for key, value in config.items()}
        found = {}
        for name, keys in _SPELLINGS.items():
            key = next((k for k in keys if k in given), None)
            if key is None:
                raise UserError(f"{self.name}: {name!r} is missing; a configuration has {', '.join(_SPELLINGS)}")
            found[name] = given.pop(key)
            if name in ("mlp_ratio", "num_heads") and not isinstance(found[name], list | tuple):
                raise UserError(f"{self.name}: {name!r} must list one number a layer, but is {found[name]!r}")
        if given:
            raise UserError(f"{self.name}: unknown key {next(iter(given))!r}; known: {', '.join(_SPELLINGS)}")
        widths = found["embed_dim"] if isinstance(found["embed_dim"], Sequence) else [found["embed_dim"]]
        if len(set(widths)) != 1:
            raise UserError(f"{self.name}: embed_dim must be the same in all layers, but got {list(widths)}")
        lists = [
            found[name] if isinstance(found[name], Sequence) else [found[name]] for name in ("mlp_ratio", "num_heads")
        ]
        return [found["depth"], *lists[0], *lists[1], widths[0]]

    def _from_flat(self, flat: Sequence[Any]) -> Architecture:
        depth = self.position(0, flat[0])
        n = int(self.variables[0].choices[depth])
        if len(flat) == len(self.variables) and n < self.deepest:  # one value a variable, inactive ones included
            return super().parse(list(flat))
        if len(flat) != 2 * n + 2:
            raise UserError(
                f"{self.name}: depth {n} takes {2 * n + 2} numbers (depth, {n} MLP ratios, {n} numbers of heads, "
                f"embed_dim), but got {len(flat)}"
            )
        idle = [0] * (self.deepest - n)
        ratios = [self.position(1 + i, value) for i, value in enumerate(flat[1 : 1 + n])]
        heads = [self.position(1 + self.deepest + i, value) for i, value in enumerate(flat[1 + n : 1 + 2 * n])]
        return self.make([depth, *ratios, *idle, *heads, *idle, self.position(len(self.variables) - 1, flat[-1])])

    def config(self, arch: Architecture) -> AutoFormerConfig:
        """The architecture's numbers; lists are as long as it is deep."""
        chosen = [v.choices[c] for v, c in zip(self.variables, arch.choices, strict=True)]
        n = int(chosen[0])
        return AutoFormerConfig(
            embed_dim=int(chosen[-1]),
            mlp_ratios=tuple(float(r) for r in chosen[1 : 1 + n]),
            heads=tuple(int(h) for h in chosen[1 + self.deepest : 1 + self.deepest + n]),
        )

    def cost(self, arch: Architecture) -> dict[str, float]:
        """`flops` (multiply-adds, the plain count) and `params` of the stand-alone network."""
        config = self.config(arch)
        return {"flops": flops(config), "params": params(config)}

    def drawing(self, arch: Architecture) -> Stages:
        """Its layers; shade for the heads, height for the ratio of the MLP."""
        config = self.config(arch)
        ratios = tuple(map(float, self.variables[1].choices))
        heads = self.variables[1 + self.deepest].choices
        layers = tuple(
            Block(f"{n} heads", f"MLP x {ratio:g}", share(ratio, ratios), 1 + heads.index(str(n)))
            for n, ratio in zip(config.heads, config.mlp_ratios, strict=True)
        )
        return Stages(
            (Stage("encoder", f"{len(layers)} layers of width {config.embed_dim}", layers),),
            "Each block is attention and an MLP: heads by shade, the MLP's ratio by height.",
            "Patches of 16 x 16 pixels before, a class token after",
        )

    def terms(self, cost: str) -> list[Term] | None:
        """Each over the embedding width, which multiplies all: what is fixed, and the two parts of every layer."""
        if cost not in PARTS:
            return None
        fixed, attention, mlp = PARTS[cost]
        last = len(self.variables) - 1
        widths = list(enumerate(map(int, self.variables[last].choices)))
        terms = [Term((last,), {(e,): fixed(width) for e, width in widths})]
        for position, variable in enumerate(self.variables[1:last], start=1):
            part = mlp if position <= self.deepest else attention
            rows = list(enumerate(map(float, variable.choices)))
            terms.append(Term((position, last), {(c, e): part(w, n) for c, n in rows for e, w in widths}))
        return terms
