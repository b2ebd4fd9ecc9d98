"""The packages that ONNX needs: an extra, for most searches end without it."""

from __future__ import annotations

import importlib.util

from collm_nas.api import UserError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def require() -> None:
    """UserError with the command that installs what is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"model.onnx needs {', '.join(missing)}, which {'are' if missing[1:] else 'is'} not installed: "
            f"python -m pip install -c constraints.txt {' '.join(missing)} (the extra 'onnx'), or leave it out by "
            "--no-onnx"
        )
