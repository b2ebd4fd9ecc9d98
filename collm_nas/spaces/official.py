"""Official encodings as they come: Python objects, NumPy arrays, or the text of a Python or JSON literal."""

from __future__ import annotations

import ast
from typing import Any


def value(encoded: object) -> Any:
    """The object that a text spells (outer brackets may be missing), lists in place of arrays; what is neither, as it
    is."""
    if isinstance(encoded, str):
        text = encoded.strip().replace("null", "None")
        for candidate in (text, f"({text})"):
            try:
                return ast.literal_eval(candidate)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        return encoded
    if hasattr(encoded, "tolist"):
        return encoded.tolist()
    return encoded
