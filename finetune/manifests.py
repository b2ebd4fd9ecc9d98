"""What the manifests of all model folders say alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune import begun
from finetune.recipes import Recipe

_LINEAGE = ("miner", "labeller", "settings", "sources", "command", "shards")


def of_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe, and its hash."""
    plain = begun.plain(recipe)
    return {"recipe": plain, "recipe_hash": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def of_datasets(mined: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each dataset what says how it was made."""
    return [{key: one[key] for key in _LINEAGE} for one in mined]


def hashes(out: Path, weights: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of these files by their place in the folder."""
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}


def versions() -> dict[str, str]:
    """Of the libraries that train."""
    import peft
    import torch
    import transformers
    import trl

    return {library.__name__: library.__version__ for library in (torch, transformers, trl, peft)}
