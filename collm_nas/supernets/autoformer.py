"""AutoFormer tiny, small and base: the supernet's shared weights, and the vision transformers cut out of them.

Structure and weight sharing after microsoft/Cream @ 4a13c40 (AutoFormer's `Vision_TransformerSuper`, run with gp,
relative_position, change_qkv), whose logits the tests hold. A slice is always the first n, but for the qkv weight
(see `_qkv_rows`).

Shapes: N images, L tokens (the class token, then 196 patches), E embedding, H heads, D = 64 a head's width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collm_nas.api import Architecture, UserError
from collm_nas.images.inputs import IMAGENET_MEAN, IMAGENET_STD, Inputs
from collm_nas.spaces._autoformer_costs import (
    CLASSES,
    GRID,
    HEAD_DIM,
    MAX_DISTANCE,
    PATCH,
    TABLE_ROWS,
    TOKENS,
    AutoFormerConfig,
    require_fit,
    size_of,
)
from collm_nas.spaces.autoformer import AutoFormerSpace
from collm_nas.supernets import base
from collm_nas.supernets.checkpoint import check

__all__ = ["AutoFormerConfig", "AutoFormerNetwork", "AutoFormerSupernet", "create", "expected_keys"]

LAYER_NORM_EPS = 1e-5  # not the 1e-6 usual for vision transformers


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def expected_keys(size: str) -> dict[str, tuple[int, ...]]:
    """Official key -> shape for the supernet `tiny`, `small` or `base`, in the official order."""
    macro = size_of(size)
    e = macro.embed_dim
    keys = {
        "pos_embed": (1, TOKENS, e),
        "cls_token": (1, 1, e),
        "patch_embed_super.proj.weight": (e, 3, PATCH, PATCH),
        "patch_embed_super.proj.bias": (e,),
    }
    for i in range(macro.depth):
        keys |= {f"blocks.{i}.{key}": shape for key, shape in _layer_keys(e).items()}
    return keys | {"norm.weight": (e,), "norm.bias": (e,), "head.weight": (CLASSES, e), "head.bias": (CLASSES,)}


def _layer_keys(e: int) -> dict[str, tuple[int, ...]]:
    table, hidden = (TABLE_ROWS, HEAD_DIM), 4 * e
    return {
        "attn.qkv.weight": (3 * e, e),
        "attn.qkv.bias": (3 * e,),
        "attn.rel_pos_embed_k.embeddings_table_v": table,
        "attn.rel_pos_embed_k.embeddings_table_h": table,
        "attn.rel_pos_embed_v.embeddings_table_v": table,
        "attn.rel_pos_embed_v.embeddings_table_h": table,
        "attn.proj.weight": (e, e),
        "attn.proj.bias": (e,),
        "attn_layer_norm.weight": (e,),
        "attn_layer_norm.bias": (e,),
        "ffn_layer_norm.weight": (e,),
        "ffn_layer_norm.bias": (e,),
        "fc1.weight": (hidden, e),
        "fc1.bias": (hidden,),
        "fc2.weight": (e, hidden),
        "fc2.bias": (e,),
    }


# --- the stand-alone network ------------------------------------------------------------------------------------------


def _small(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-0.02, 0.02))  # where a training from scratch starts


@cache
def _relative_rows() -> tuple[Tensor, Tensor]:
    """Table rows, int64 (L, L) each, for the vertical and horizontal distance from query (first) to key.

    One copy for all layers, which exported files then hold once, too.
    """
    at = torch.arange(GRID, device="cpu")  # even while a network is built on the meta device
    distance = (at[None, :] - at[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE) + MAX_DISTANCE + 1
    ones = torch.ones_like(distance)
    # Patches lie row by row. The padding puts the class token, as query and as key, at row 0.
    return F.pad(torch.kron(distance, ones), (1, 0, 1, 0)), F.pad(torch.kron(ones, distance), (1, 0, 1, 0))


class RelativePositions(nn.Module):
    """A learned vector for each pair of tokens: one for their vertical plus one for their horizontal distance."""

    rows_v: Tensor
    rows_h: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.vertical = _small(TABLE_ROWS, HEAD_DIM)
        self.horizontal = _small(TABLE_ROWS, HEAD_DIM)
        rows_v, rows_h = _relative_rows()
        self.register_buffer("rows_v", rows_v, persistent=False)
        self.register_buffer("rows_h", rows_h, persistent=False)

    def forward(self) -> Tensor:
        """Shape (query L, key L, D), the same for all heads."""
        return self.vertical[self.rows_v] + self.horizontal[self.rows_h]


class Attention(nn.Module):
    """Self-attention whose keys and values have relative positions added."""

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(embed_dim, 3 * heads * HEAD_DIM)
        self.key_positions = RelativePositions()
        self.value_positions = RelativePositions()
        self.proj = nn.Linear(heads * HEAD_DIM, embed_dim)

    def forward(self, x_NLE: Tensor) -> Tensor:
        """Shape kept."""
        qkv_3NHLD = self.qkv(x_NLE).unflatten(-1, (3, self.heads, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        q_NHLD, k_NHLD, v_NHLD = qkv_3NHLD.unbind()
        q_NHLD = q_NHLD * HEAD_DIM**-0.5  # scales the relative term, too
        logits_NHLL = q_NHLD @ k_NHLD.transpose(-2, -1)
        logits_NHLL = logits_NHLL + torch.einsum("nhqd,qkd->nhqk", q_NHLD, self.key_positions())
        weights_NHLL = logits_NHLL.softmax(-1)
        out_NHLD = weights_NHLL @ v_NHLD + torch.einsum("nhqk,qkd->nhqd", weights_NHLL, self.value_positions())
        out_NLE: Tensor = self.proj(out_NHLD.transpose(1, 2).flatten(2))
        return out_NLE


class Layer(nn.Module):
    """Attention and feed-forward part, each behind a LayerNorm and beside a residual."""

    def __init__(self, embed_dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(embed_dim, LAYER_NORM_EPS)
        self.attn = Attention(embed_dim, heads)
        self.ffn_norm = nn.LayerNorm(embed_dim, LAYER_NORM_EPS)
        self.fc1 = nn.Linear(embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, embed_dim)

    def forward(self, x_NLE: Tensor) -> Tensor:
        """Shape kept."""
        x_NLE = x_NLE + self.attn(self.attn_norm(x_NLE))
        out_NLE: Tensor = x_NLE + self.fc2(_gelu(self.fc1(self.ffn_norm(x_NLE))))
        return out_NLE


def _gelu(x: Tensor) -> Tensor:
    """Exact (erf), in float32 at least: half precision is widened for it and narrowed again."""
    return F.gelu(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)


class AutoFormerNetwork(nn.Module):
    """The whole classifier: images (N, 3, 224, 224) to logits (N, K)."""

    def __init__(self, config: AutoFormerConfig) -> None:
        super().__init__()
        e = config.embed_dim
        self.patch_embed = nn.Conv2d(3, e, PATCH, stride=PATCH)
        self.cls_token = _small(1, 1, e)
        self.pos_embed = _small(1, TOKENS, e)
        self.layers = nn.ModuleList(Layer(e, h, hidden) for h, hidden in zip(config.heads, config.hidden, strict=True))
        self.norm = nn.LayerNorm(e, LAYER_NORM_EPS)
        self.head = nn.Linear(e, CLASSES)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits from the mean over the patches, without the class token; UserError for images of another size."""
        side = GRID * PATCH
        if x_NCHW.shape[1:] != (3, side, side):
            raise UserError(f"an AutoFormer network takes images (N, 3, {side}, {side}), but got {tuple(x_NCHW.shape)}")
        x_NLE = self.patch_embed(x_NCHW).flatten(2).transpose(1, 2)
        x_NLE = torch.cat([self.cls_token.expand(x_NLE.shape[0], -1, -1), x_NLE], 1) + self.pos_embed
        for layer in self.layers:
            x_NLE = layer(x_NLE)
        logits_NK: Tensor = self.head(self.norm(x_NLE)[:, 1:].mean(1))
        return logits_NK


# --- the supernet -----------------------------------------------------------------------------------------------------


def create(space: AutoFormerSpace, state: Mapping[str, Tensor]) -> AutoFormerSupernet:
    """The supernet of the space with these weights; UserError where they are not its."""
    return AutoFormerSupernet(state, space)


def shapes(space: AutoFormerSpace) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every shared tensor."""
    return expected_keys(space.size_name)


class AutoFormerSupernet:
    """The shared weights of a space's size (`tiny`, `small` or `base`); no architecture is ever set in it.

    Holds the tensors of `state` themselves, in their dtype. UserError where they are not this supernet's.
    """

    def __init__(self, state: Mapping[str, Tensor], space: AutoFormerSpace) -> None:
        self.space = space
        self.size = size_of(space.size_name)
        self.state = check(state, expected_keys(space.size_name), f"the supernet of {space.name}")

    def extract(self, arch: Architecture) -> nn.Module:
        """The architecture as a network of its own: see `supernets.base.extract`."""
        return base.extract(self, arch)

    def network(self, arch: Architecture) -> AutoFormerNetwork:
        """The architecture's structure, without memory for its weights."""
        return structure(self.space.config(arch), self.state["norm.weight"].device)

    def weights(self, arch: Architecture) -> dict[str, Tensor]:
        """Its slices of the shared tensors, by the network's keys."""
        return self.slices(self.space.config(arch))

    def slices(self, config: AutoFormerConfig) -> dict[str, Tensor]:
        """`weights` for any numbers that fit the supernet, those outside of the space too; UserError if they do not."""
        require_fit(config, self.size)
        return _cut(self.state, config)

    def inputs(self, arch: Architecture) -> Inputs:
        """Images as the official code cuts them: bicubic to 256 pixels, the centre of 224."""
        return Inputs(GRID * PATCH, IMAGENET_MEAN, IMAGENET_STD, resize=256, filter="bicubic")


def structure(config: AutoFormerConfig, device: torch.device) -> AutoFormerNetwork:
    """The network without memory for weights that are replaced at once, nor draws of random numbers; its constants are
    on the device."""
    with torch.device("meta"):
        network = AutoFormerNetwork(config)
    for module in network.modules():
        if isinstance(module, RelativePositions):
            module.rows_v, module.rows_h = module.rows_v.to(device), module.rows_h.to(device)
    return network


def _cut(state: Mapping[str, Tensor], config: AutoFormerConfig) -> dict[str, Tensor]:
    """The parameters of `AutoFormerNetwork(config)` as views of the supernet's tensors."""
    e = config.embed_dim
    out = {
        "patch_embed.weight": state["patch_embed_super.proj.weight"][:e],
        "patch_embed.bias": state["patch_embed_super.proj.bias"][:e],
        "cls_token": state["cls_token"][..., :e],
        "pos_embed": state["pos_embed"][..., :e],
        "norm.weight": state["norm.weight"][:e],
        "norm.bias": state["norm.bias"][:e],
        "head.weight": state["head.weight"][:, :e],
        "head.bias": state["head.bias"],
    }
    for i, (heads, hidden) in enumerate(zip(config.heads, config.hidden, strict=True)):
        old = {key: state[f"blocks.{i}.{key}"] for key in _layer_keys(e)}
        out |= {f"layers.{i}.{key}": value for key, value in _cut_layer(old, e, heads * HEAD_DIM, hidden).items()}
    return out


def _cut_layer(state: Mapping[str, Tensor], e: int, width: int, hidden: int) -> dict[str, Tensor]:
    return {
        "attn_norm.weight": state["attn_layer_norm.weight"][:e],
        "attn_norm.bias": state["attn_layer_norm.bias"][:e],
        "attn.qkv.weight": _qkv_rows(state["attn.qkv.weight"][:, :e], width),
        "attn.qkv.bias": state["attn.qkv.bias"][: 3 * width],  # q, k, v in turn: not as the weight's rows
        "attn.key_positions.vertical": state["attn.rel_pos_embed_k.embeddings_table_v"],
        "attn.key_positions.horizontal": state["attn.rel_pos_embed_k.embeddings_table_h"],
        "attn.value_positions.vertical": state["attn.rel_pos_embed_v.embeddings_table_v"],
        "attn.value_positions.horizontal": state["attn.rel_pos_embed_v.embeddings_table_h"],
        "attn.proj.weight": state["attn.proj.weight"][:e, :width],
        "attn.proj.bias": state["attn.proj.bias"][:e],
        "ffn_norm.weight": state["ffn_layer_norm.weight"][:e],
        "ffn_norm.bias": state["ffn_layer_norm.bias"][:e],
        "fc1.weight": state["fc1.weight"][:hidden, :e],
        "fc1.bias": state["fc1.bias"][:hidden],
        "fc2.weight": state["fc2.weight"][:e, :hidden],
        "fc2.bias": state["fc2.bias"][:e],
    }


def _qkv_rows(weight: Tensor, width: int) -> Tensor:
    """The supernet's rows are q, k, v, q, k, v, ...; the stand-alone layer's first all of q, then k, then v."""
    return torch.cat([weight[part : 3 * width : 3] for part in range(3)])
