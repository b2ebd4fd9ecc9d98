"""How good a dataset is, as a page beside it (`quality.html`) and a line: lengths, label entropy, coverage, duplicates,
and what a model trained on it will have seen."""

from __future__ import annotations

import hashlib
import html
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collm_nas.evaluators import table_file
from collm_nas.evaluators.landscape import HELD_OUT
from collm_nas.prompts import TOKEN_PATTERN

PAGE = "quality.html"
ROLES = ("navigator", "generator")
TOKEN = re.compile(TOKEN_PATTERN)
_PAIR = re.compile(r"([a-zA-Z])([0-9a-z])")
_ANCHOR = re.compile(r"<a>((?:[a-zA-Z][0-9a-z])+)")

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2230;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #c9ced8;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{background:#2f5fb3;height:.7rem;display:block}
@media(prefers-color-scheme:dark){body{color:#e6e9f0;background:#14171d}th,td{border-color:#3a4150}
.bar{background:#7aa5f0}}
"""


@dataclass(slots=True)
class Counted:
    """What one pass over the dataset counts; of the examples it keeps a hash each."""

    rows: Counter[str] = field(default_factory=Counter)
    prompt: dict[str, Counter[int]] = field(default_factory=lambda: {role: Counter() for role in ROLES})
    completion: dict[str, Counter[int]] = field(default_factory=lambda: {role: Counter() for role in ROLES})
    choices: dict[str, Counter[str]] = field(default_factory=dict)
    variables: Counter[int] = field(default_factory=Counter)
    evaluations: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    differences: Counter[int] = field(default_factory=Counter)
    """Of the outcomes of a pair's answers, in tenths; empty where the dataset has no pairs."""
    highest_seed: int = -1


def count(folder: Path) -> Counted:
    """One pass over the shards, one shard in memory at a time."""
    found = Counted()
    known: set[int] = set()
    for row in _rows(folder):
        _add(found, known, row)
    return found


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("part-*.parquet")):
        yield from pq.read_table(path).to_pylist()


def _add(found: Counted, known: set[int], row: Mapping[str, Any]) -> None:
    role = row["role"]
    prompt, completion = (turn["content"] for turn in row["messages"])
    found.rows[role] += 1
    found.prompt[role][len(TOKEN.findall(prompt)) // 100 * 100] += 1
    found.completion[role][len(TOKEN.findall(completion)) // 10 * 10] += 1
    mark = int.from_bytes(hashlib.blake2b(f"{role}{prompt}\0{completion}".encode(), digest_size=8).digest())
    found.repeated[role] += mark in known
    known.add(mark)
    found.highest_seed = max(found.highest_seed, row["seed"])
    if "rejected" in row:
        found.differences[math.floor(10 * (row["outcome"] - row["outcome_rejected"]))] += 1
    if role == "navigator":
        found.variables[row["variables"]] += 1
        found.evaluations[row["evaluations"]] += 1
        found.sources[row["source"]] += 1
        anchor = _ANCHOR.search(completion)
        for letter, choice in _PAIR.findall(anchor[1] if anchor else ""):
            found.choices.setdefault(letter, Counter())[choice] += 1


def entropy(counts: Mapping[str, int]) -> float:
    """Bits."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n)


def leaks(found: Counted, manifest: Mapping[str, Any]) -> list[str]:
    """What a model trained on this will have seen, in words."""
    packaged = {hashlib.sha256(path.read_bytes()).hexdigest(): name for name, path in table_file.built_in().items()}
    said = [
        f"{name} (sha256 {sha[:12]}…{', the package’s table ' + packaged[sha] if sha in packaged else ''})"
        for name, sha in sorted(manifest["sources"].items())
    ]
    if manifest["miner"] in ("landscapes", "hindsight") and found.highest_seed >= HELD_OUT:
        said.append(f"held-out landscapes: seed {found.highest_seed} is not below {HELD_OUT}")
    return said


def line(found: Counted, manifest: Mapping[str, Any], folder: Path) -> str:
    """The summary that the command prints."""
    total, repeated = sum(found.rows.values()), sum(found.repeated.values())
    seen = "; ".join(leaks(found, manifest)) or "nothing but synthetic landscapes"
    parts = ", ".join(f"{found.rows[role]:,} for the {role.capitalize()}" for role in ROLES)
    return (
        f"{total:,} examples ({parts}), {repeated / max(1, total):.1%} repeated; a model trained on them has seen "
        f"{seen}; {folder / PAGE}"
    )


def write(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Count, write `quality.html`, return the line."""
    found = count(folder)
    part = folder / f"{PAGE}.tmp"
    part.write_text(page(found, manifest), encoding="utf-8")
    os.replace(part, folder / PAGE)
    return line(found, manifest, folder)


def page(found: Counted, manifest: Mapping[str, Any]) -> str:
    """One self-contained HTML page."""
    seen = leaks(found, manifest)
    listed = "".join(f"<li>{html.escape(one)}</li>" for one in seen)
    leak = f"<ul>{listed}</ul>" if seen else "<p>Nothing but synthetic landscapes, none of them held out.</p>"
    rows = [[role, f"{found.rows[role]:,}", f"{found.repeated[role]:,}"] for role in ROLES]
    even = [
        [letter, str(len(counts)), f"{entropy(counts):.2f}", f"{math.log2(len(counts)) if counts else 0:.2f}"]
        for letter, counts in sorted(found.choices.items())
    ]
    parts = [
        f"<p><code>{html.escape(manifest['command'])}</code><br>digest version {manifest['digest_version']}, labels by "
        f"{html.escape(manifest['labeller'])}, {len(found.sources):,} sources</p>",
        "<h2>Examples</h2>" + _table(["role", "examples", "repeated"], rows),
        "<h2>A model trained on this has seen</h2>" + leak,
        "<h2>Label entropy</h2><p>Bits of the Navigator’s first anchor, variable by variable, and the most that its "
        "choices allow. Far below the most, a model can guess without reading the history.</p>"
        + _table(["variable", "choices met", "bits", "most"], even),
        "<h2>Coverage</h2>",
        _bars("Navigator’s examples by evaluations so far", found.evaluations),
        _bars("by variables of the space", found.variables),
        *(
            [_bars("Pairs by how much more the better answer brought (tenths)", found.differences)]
            * bool(found.differences)
        ),
        "<h2>Lengths in tokens</h2>",
        *(_bars(f"{role}: prompt (hundreds)", found.prompt[role]) for role in ROLES),
        *(_bars(f"{role}: answer (tens)", found.completion[role]) for role in ROLES),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Quality of a dataset</title><style>{_STYLE}</style><h1>Quality of a dataset</h1>{''.join(parts)}"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    kinds = ["", *['class="n"'] * (len(heads) - 1)]
    head = "".join(f"<th {kind}>{html.escape(text)}</th>" for kind, text in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td {k}>{html.escape(cell)}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bars(title: str, counts: Mapping[int, int]) -> str:
    most = max(counts.values(), default=1)
    rows = "".join(
        f'<tr><td class="n">{key}</td><td class="n">{n:,}</td>'
        f'<td style="width:70%"><span class="bar" style="width:{100 * n / most:.1f}%"></span></td></tr>'
        for key, n in sorted(counts.items())
    )
    return f"<h3>{html.escape(title)}</h3><table><tbody>{rows}</tbody></table>"
