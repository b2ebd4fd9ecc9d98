"""Protocols by name: each YAML file of this folder is one (`eval.study` says what is in it). No list to edit.

A file of figures from elsewhere lies beside the protocols that print them (`eval.printed`). Tables are not part of a
protocol, since none of them is ours to ship: `--table` says where the user's copy lies.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from collm_nas.api import UserError
from collm_nas.spaces.yaml_space import safe_load
from eval.study import Study, read

FOLDER = Path(__file__).parent
_MOST_BYTES = 256 * 1024


def names() -> list[str]:
    """The protocols of this folder, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(given: str) -> Study:
    """The protocol of this name, or of this YAML file; UserError says what there is, or what the file has wrong."""
    path = _located(given)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"--protocol {path} is larger than {_MOST_BYTES // 1024} KiB; give a protocol, not a table")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"--protocol {given}: there is no such file; by name there are: {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError):
        raise UserError(f"--protocol {given} can't be read as UTF-8 text; give a YAML file, or a name") from None
    return read(safe_load(text, str(path)), path)


def _located(given: str) -> Path:
    if Path(given).suffix in (".yaml", ".yml") or "/" in given:
        return Path(given).expanduser()
    if given not in names():
        close = difflib.get_close_matches(given, names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"--protocol {given!r} is unknown; legal: {', '.join(names())}, or a file FILE.yaml{hint}")
    return FOLDER / f"{given}.yaml"
