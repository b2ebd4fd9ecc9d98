"""A trained supernet of ours on disk: one safetensors file that says what it is.

Its metadata hold, as JSON under the key `collm_nas`, the space with its options, the classes, the data's hash and the
recipe, so that a search needs nothing but the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from collm_nas.api import UserError

FILE = "supernet.safetensors"
KEY = "collm_nas"


def save(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the tensors and the facts (JSON values), whole or not at all; UserError where that cannot be."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial, tensors = path.with_suffix(".partial"), {k: v.detach().cpu().contiguous() for k, v in state.items()}
    try:
        save_file(tensors, partial, {KEY: json.dumps(facts)})
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}; name another, or mend that") from None


def facts(path: Path) -> dict[str, Any]:
    """What was saved beside the tensors; empty for a file of somebody else's."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return {}  # reading the tensors will say what is wrong
    return dict(json.loads(metadata[KEY])) if KEY in metadata else {}


def find(path: str | os.PathLike[str]) -> Path:
    """The file itself, or the one in the folder that a training made."""
    given = Path(path).expanduser()
    return given / FILE if given.is_dir() else given


def sha256(path: Path) -> str:
    """Of the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
