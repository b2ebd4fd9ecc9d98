"""How much memory a model needs to answer, from its files alone, before anything is loaded.

Weights, and the keys and values of every token that rows keep: 2 x layers x key-value heads x head size a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from inference.folder import ModelFolder

ROWS = 32
"""Answers at once that memory is kept for; more wait their turn."""

CONTEXT = 8192
"""Tokens of prompt and answer that each of them may have, where the model's context is not shorter."""

ROOM = 1 << 30
"""Bytes for what is computed meanwhile: activations, logits, the engine's own buffers. An estimate."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model takes."""

    weights: int
    token: int
    """Of one token's keys and values."""
    context: int
    """Tokens of a row."""
    rows: int = ROWS
    room: int = ROOM

    @property
    def cache(self) -> int:
        """Bytes of all rows' keys and values. Rows share their prompt, so a quarter of each row's is its own."""
        return self.token * self.context * max(1, self.rows // 4)

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.room


def folder_need(model: Path, bits: int) -> Need:
    """What a model folder's base needs with numbers of so many bits."""
    return need(ModelFolder.open(model, tuned=False).base, bits)


def need(base: Path, bits: int, rows: int = ROWS) -> Need:
    """What the model in this folder needs with numbers of so many bits; UserError where its config can't be read."""
    config = read_config(base)
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    width = {"float32": 32, "bfloat16": 16, "float16": 16}.get(
        str(config.get("dtype") or config.get("torch_dtype")), 16
    )
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    token = 2 * config["num_hidden_layers"] * heads * size * bits // 8
    return Need(stored * bits // width, token, min(CONTEXT, config.get("max_position_embeddings", CONTEXT)), rows)


def read_config(base: Path) -> dict[str, Any]:
    """The model's `config.json`; UserError where it isn't one of a language model."""
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        text: dict[str, Any] = config.get("text_config", config)
        for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"):
            text[key] = int(text[key])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{base / 'config.json'} is not the config of a language model: {error!r}") from None
    return text
