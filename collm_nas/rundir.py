"""The run folder: `journal.jsonl` (the truth), `result.json` and `report.html` (derived from it)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collm_nas import result
from collm_nas.api import UserError
from collm_nas.journal import Event, Journal, read
from collm_nas.stages import stage

JOURNAL, RESULT, REPORT = "journal.jsonl", "result.json", "report.html"
FREE = ("table", "supernet", "data source", "data name")
"""Keys of a protocol (see `flat`) that may differ between measurements that are one: their hashes say what they are."""
OPTIONS = {"data digest": "--data", "data valid": "--valid", "images": "--protocol", "race": "--race"}
"""Key of a protocol -> the option that it comes from."""


def open_journal(out: Path | None, resume: bool, began: float, wait: float = 0.0) -> Journal:
    """The journal of this run folder (in memory for None); nothing is created before its first event.

    `wait`: seconds to wait for another process that has the run.
    Raises UserError for a folder that holds anything and is not to be resumed, or that holds no run.
    """
    if out is None:
        if resume:
            raise UserError("--resume needs --out RUN, the folder of the run to go on with")
        return Journal(began=began)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    try:
        held = sorted(path.name for path in out.iterdir()) if out.exists() else []
    except OSError as error:
        raise UserError(f"--out {out} cannot be read: {error.strerror}; choose another") from None
    if held and not resume:
        raise UserError(f"--out {out} is not empty; add --resume to go on with the run in it, or choose another folder")
    if held and JOURNAL not in held:
        raise UserError(
            f"--out {out} holds {held[0]!r} but no {JOURNAL}, so it is no run to resume; choose another folder"
        )
    check_writable(out)
    return Journal(out / JOURNAL, began=began, wait=wait)


def check_writable(out: Path) -> None:
    """UserError where `out` is, or would be made in, a place that cannot be written."""
    folder = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--out {out} cannot be written: {folder} is no folder that you may write in; choose another")


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], out: Path | None) -> None:
    """UserError that names the first option in which a resumed search differs from the one the run was begun with."""

    def refuse(option: str, was: object, now: object) -> UserError:
        return UserError(
            f"{option}: the run in {out} was begun with {was}, not {now}; resume it as it was begun, or choose another "
            "--out"
        )

    if old["space"]["name"] != new["space"]["name"]:
        raise refuse("--space", repr(old["space"]["name"]), repr(new["space"]["name"]))
    if old["space_sha256"] != new["space_sha256"] and old["space"] != new["space"]:
        raise refuse("--space", f"another definition of {old['space']['name']!r}", "this one")
    _check_protocol(old["protocol"], new["protocol"], refuse)
    if old["seed"] != new["seed"]:
        raise refuse("--seed", old["seed"], new["seed"])
    _check_options(old["options"], new["options"], refuse)


def _check_protocol(old: Mapping[str, Any], new: Mapping[str, Any], refuse: Any) -> None:
    if old.get("source") != new.get("source") or old.get("function") != new.get("function"):
        raise refuse("the evaluator", evaluator_name(old), evaluator_name(new))
    if old.get("command") != new.get("command"):
        raise refuse("--evaluator-cmd", old["command"], new["command"])
    if old.get("sha256") != new.get("sha256"):
        raise refuse("--table", _hashed(old), _hashed(new))
    for key in ("fitness", "report"):
        if old.get(key) != new.get(key):
            raise refuse(f"--{key}", repr(old.get(key)), repr(new.get(key)))
    was, now = flat(old), flat(new)
    for key in dict.fromkeys([*OPTIONS, *now, *was]):
        if key not in FREE and was.get(key) != now.get(key):
            raise refuse(OPTIONS.get(key, f"{key} of the evaluator"), _shown(was.get(key)), _shown(now.get(key)))


def flat(protocol: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A protocol with what is nested in it by two words: `data digest`."""
    found: dict[str, Any] = {}
    for key, value in protocol.items():
        found |= flat(value, f"{prefix}{key} ") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def evaluator_name(protocol: Mapping[str, Any]) -> str:
    """What scored, in a word: the table, function or command, else the kind of evaluator."""
    return str(next((protocol[key] for key in ("table", "function", "command", "source") if protocol.get(key)), "?"))


def _hashed(protocol: Mapping[str, Any]) -> str:
    return evaluator_name(protocol) + (f" (sha256 {protocol['sha256'][:12]}…)" if protocol.get("sha256") else "")


def _check_options(old: Mapping[str, Any], new: Mapping[str, Any], refuse: Any) -> None:
    if old["optimizer"] != new["optimizer"]:
        raise refuse("--optimizer", old["optimizer"], new["optimizer"])
    for cost in sorted({*old["caps"], *new["caps"]}):
        if old["caps"].get(cost) != new["caps"].get(cost):
            raise refuse(f"--max-{cost}", old["caps"].get(cost, "no such cap"), new["caps"].get(cost, "no such cap"))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise refuse(f"--{key.replace('_', '-')}", _shown(old.get(key)), _shown(new.get(key)))


def _shown(value: object) -> str:
    return "none" if value in (None, []) else f"{value!r:.80}"


def write(run: Path) -> dict[str, Any]:
    """Derive `result.json` and `report.html` from the journal; files that are right already are not touched."""
    events = _events(run)
    derived = result.derive(events)
    replace(run / RESULT, result.dumps(derived).encode())
    write_report(derived, events, run / REPORT)
    return derived


def write_report(derived: Mapping[str, Any], events: list[Event], path: Path) -> None:
    """The report of a run, at `path`."""
    page = stage("eval.report").render(derived, events)
    replace(path, page.encode())


def write_comparison(runs: Sequence[tuple[str, Mapping[str, Any], list[Event]]], path: Path) -> None:
    """The page about several runs (name, result, events), at `path`."""
    compare = stage("eval.compare")
    replace(path, compare.render([compare.Run(*run) for run in runs]).encode())


def _events(run: Path) -> list[Event]:
    if not run.is_dir() or not (run / JOURNAL).is_file():
        raise UserError(f"{run} holds no {JOURNAL}; name the folder of a run (what `collm-nas search` printed)")
    return read(run / JOURNAL)[0]


def load(run: Path) -> tuple[dict[str, Any], list[Event]]:
    """Result and events of a run, from its journal alone; nothing is written."""
    events = _events(run)
    return result.derive(events), events


def record(run: Path, name: str, protocol: Callable[[Mapping[str, Any]], str]) -> Any:
    """A run as other tools keep it (`eval.trackers.Record`); `protocol`: tells a result's in one line."""
    derived, events = load(run)
    files = {RESULT: result.dumps(derived)}
    try:
        written = (run / JOURNAL).stat().st_mtime
        if (run / REPORT).is_file():
            files[REPORT] = (run / REPORT).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {run / REPORT}: {error}; write it again by `collm-nas report {run}`") from None
    trackers = stage("eval.trackers")
    return trackers.record(name, derived, events, protocol=protocol(derived), written=written, files=files)


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    if path.is_file() and path.read_bytes() == data:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; mend that and run `collm-nas replay`"
        ) from None
