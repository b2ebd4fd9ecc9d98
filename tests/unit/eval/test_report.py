"""The report is one safe, self-contained page, the same for the same run."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from collm_nas.api import Variable
from collm_nas.prompts import GENERATOR_TOKEN
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import Direction, Strategy
from eval.chart import limits, ticks
from eval.page import duration
from eval.report import render, write
from eval.rounds import rounds

EVIL = '<script>alert("1")</script>'
SPACE = CategoricalSpace("toy", [Variable("a", ("x", "y", "z")), Variable("b", ("p", "q"))])
VOID = {"meta", "link", "br", "img", "hr", "input"}


def evaluation(
    query: int, arch: str, fitness: float, best: float | None, proposer: str, feasible: bool = True
) -> dict[str, Any]:
    row = {"query": query, "arch": arch, "fitness": fitness, "best_so_far": best}
    return {**row, "proposer": proposer, "feasible": feasible}


def candidate(arch: str | None, proposer: str, verdict: str, text: str = "") -> dict[str, Any]:
    return {"event": "candidate", "arch": arch, "proposer": proposer, "verdict": verdict, "text": text}


def strategy() -> Strategy:
    anchors = tuple(SPACE.parse(text) for text in ("x p", "y q", "z p"))
    return Strategy(anchors, (Direction(1, 0, 2), Direction(1, 1, 3)), 2, 3)


def run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    history = [
        evaluation(1, "x p", 90.0, 90.0, "init"),
        evaluation(2, "z q", 95.0, 90.0, "init", feasible=False),
        evaluation(3, "y q", 93.25, 93.25, "model"),
        evaluation(4, "y p", 91.5, 93.25, "model"),
    ]
    events = [
        {"event": "header", "space": SPACE.spec(), "seed": 3, "options": {"optimizer": "collm"}},
        candidate("x p", "init", "evaluated"),
        candidate("z q", "init", "evaluated"),
        {"event": "completion", "role": "navigator", "texts": [strategy().compact(SPACE)]},
        {"event": "prompt", "role": "generator", "prompt": strategy().compact(SPACE) + GENERATOR_TOKEN},
        {"event": "completion", "role": "generator", "texts": ["a1b1", "a1b0", "a0b0"]},
        candidate("y q", "model", "evaluated"),
        candidate("y p", "model", "evaluated"),
        candidate("x p", "model", "repeated"),
        {"event": "end", "reason": "budget", "report": {"test": 92.0}},
    ]
    counts = {"attempted": 5, "valid": 5, "unique": 4, "evaluated": 4}
    result = {
        "best": {"arch": "y q", "fitness": 93.25, "report": {"test": 92.0}, "costs": {"flops": 1.2e8, "params": 999.0}},
        "counts": counts,
        "counts_by_proposer": {"init": counts, "model": counts, "fallback": dict.fromkeys(counts, 0)},
        "history": history,
        "tokens": {"prompt": 100, "completion": 40},
        "seconds": {"llm": 1.5, "evaluate": 0.0, "total": 62.0},
        "ended": "budget",
        "warnings": ["mind the gap"],
        "protocol": {"space": "toy", "fitness": "valid", "sha256": "ab" * 32, "seeds": [3]},
        "seen": "unseen",
        "seed": 3,
        "versions": {"collm-nas": "0.1.0"},
    }
    return result, events


class Page(HTMLParser):
    """Collects elements and visible text, and checks that what is opened is closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + "\n"


def test_failures_are_listed_by_reason_and_told_in_their_round() -> None:
    result, events = run()
    assert "failed" not in render(result, events)
    reasons = [EVIL, "it diverged", "it diverged"]
    rows = [{"arch": arch, "reason": why} for arch, why in zip(("x p", "y p", "z p"), reasons, strict=True)]
    result |= {"failures": rows, "counts": {**result["counts"], "failed": 3}}
    result["history"] = [row for row in result["history"] if row["arch"] != "y p"]
    events = [*events, {"event": "failure", "arch": "y p", "reason": "it diverged", "seconds": 1.0}]
    page = render(result, events)
    assert page.index("it diverged") < page.index("&lt;script&gt;alert") and EVIL not in page
    assert "<td>2</td><td><code>y p</code></td>" in page and "3 evaluations failed" in page
    assert [told.verdict for told in rounds(events, result["history"])[0].plans[0].candidates] == [
        *("evaluated", "failed", "repeated"),
    ]


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render(*run())
    assert "://" not in page
    assert "url(" not in page and "@import" not in page
    for tag, attributes in Page(page).tags:
        assert tag not in {"script", "link", "iframe", "img", "object", "base"}
        assert not {"src", "href", "srcset", "onload", "onclick"} & attributes.keys()


def test_the_standard_error_is_shown_where_it_is_known() -> None:
    result, events = run()
    assert "standard error" not in render(result, events)
    result["best"]["error"] = result["history"][2]["error"] = 0.3456
    page = Page(render(result, events))
    assert "fitness (valid), standard error 0.35" in page.text
    assert sum(tag == "th" for tag, _ in page.tags) - sum(tag == "th" for tag, _ in Page(render(*run())).tags) == 1
    assert "0.35" in page.text.partition("The best")[2]


def test_what_a_reader_looks_for_is_there() -> None:
    page = Page(render(*run()))
    for words in ("y q", "93.25", "test (read once)", "120 M", "unseen", "1 min 02 s", "mind the gap", "ab" * 32):
        assert words in page.text, words
    assert "The budget of evaluations was used up." in page.text
    assert "1 over a cap, hollow" in page.text
    assert "a: y before x, mostly settled" in page.text and "b: q alone, nearly settled" in page.text
    assert "the best one found is nearly right, so change little" in page.text


def test_every_evaluation_is_a_dot_in_both_drawings() -> None:
    dots = [
        a for tag, a in Page(render(*run())).tags if tag == "circle" and str(a["class"]).startswith("dot") and "r" in a
    ]
    assert len([a for a in dots if a["r"] == "3.4"]) == 2 * 4


def test_ids_are_unique() -> None:
    ids = [a["id"] for _, a in Page(render(*run())).tags if "id" in a]
    assert ids and len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "where", ["best", "history", "proposer", "report", "warnings", "protocol", "seen", "ended", "space", "strategy"]
)
def test_text_is_escaped(where: str) -> None:
    result, events = run()
    if where == "best":
        result["best"]["arch"] = EVIL
    elif where in ("history", "proposer"):
        result["history"][2]["arch" if where == "history" else "proposer"] = EVIL
    elif where == "report":
        result["best"]["report"] = {EVIL: 1.0}
    elif where == "warnings":
        result["warnings"] = [EVIL]
    elif where == "protocol":
        result["protocol"] = {EVIL: {EVIL: [EVIL]}, "fitness": EVIL, "space": EVIL}
    elif where in ("seen", "ended"):
        result[where] = EVIL
    elif where == "space":
        events[0]["space"] = EVIL
    else:
        events[3]["texts"] = [EVIL]
    page = render(result, events)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert not [tag for tag, _ in Page(page).tags if tag == "script"]


def test_same_run_same_bytes(tmp_path: Path) -> None:
    result, events = run()
    write(result, events, tmp_path / "a.html")
    write(copy.deepcopy(result), copy.deepcopy(events), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_rounds_tell_what_became_of_candidates() -> None:
    result, events = run()
    [only] = rounds(events, result["history"])
    [plan] = only.plans
    assert plan.anchors == ["x p", "y q", "z p"]
    assert [(c.text, c.verdict, c.fitness, c.better) for c in plan.candidates] == [
        ("y q", "evaluated", 93.25, True),
        ("y p", "evaluated", 91.5, False),
        ("x p", "repeated", None, False),
    ]


def test_each_candidate_stands_beside_the_strategy_it_came_from() -> None:
    result, events = run()
    other = replace(strategy(), roam=7).compact(SPACE)
    events[3]["texts"].append(other)
    events[6:6] = [
        {"event": "prompt", "role": "generator", "prompt": other + GENERATOR_TOKEN},
        {"event": "completion", "role": "generator", "texts": ["a0b1", "a2b0"]},
    ]
    events[11:11] = [candidate("x q", "model", "surplus"), candidate("z p", "model", "surplus")]
    events.append(candidate("z p", "fallback", "surplus"))
    [only] = rounds(events, result["history"])
    assert [[c.text for c in plan.candidates] for plan in only.plans] == [["y q", "y p", "x p"], ["x q", "z p"]]
    assert only.plans[1].roam == "change about 7 eighths of the variables"
    assert [c.text for c in only.others] == ["z p"]


def test_an_unreadable_strategy_is_shown_verbatim() -> None:
    result, events = run()
    events[3]["texts"] = ["<a>nonsense & more"]
    assert "&lt;a&gt;nonsense &amp; more" in render(result, events)


def test_a_run_of_a_baseline_has_no_strategies() -> None:
    result, events = run()
    page = render(result, [e for e in events if e["event"] != "completion"])
    assert "round by round" not in page


def test_a_run_without_any_feasible_evaluation() -> None:
    result, events = run()
    result |= {"best": None, "history": [evaluation(1, "z q", 95.0, None, "init", feasible=False)]}
    page = Page(render(result, events))
    assert "None: nothing was evaluated within the caps." in page.text


def test_a_run_that_was_interrupted_at_once() -> None:
    result, events = run()
    result |= {"best": None, "history": [], "ended": "interrupted"}
    assert "It was interrupted" in Page(render(result, events[:1])).text


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [-3.0, 4e-7], [10.0, 94.0, 94.1, 94.2], [1e9, 2e9]])
def test_axis_holds_the_best_and_has_ticks(values: list[float]) -> None:
    low, high = limits(values)
    assert low < max(values) < high
    marks = ticks(low, high, 7)
    assert 2 <= len(marks) <= 16
    assert all(low - 1e-9 * abs(low) <= mark <= high + 1e-9 * abs(high) for mark in marks)
    assert all(math.isclose(b - a, marks[1] - marks[0], rel_tol=1e-6) for a, b in pairwise(marks))


def test_a_few_bad_evaluations_do_not_flatten_the_curve() -> None:
    low, _ = limits([10.0, 93.0, 94.0, 95.0, 94.5])
    assert low > 80


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0021, "0.0021 s"), (12.34, "12.3 s"), (245, "4 min 05 s"), (7625, "2 h 07 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_are_never_dropped_by_the_regular_style() -> None:
    """Coordinates are plain decimals, so that every browser reads the path."""
    page = render(*run())
    for path in re.findall(r'<path class="best" d="([^"]*)"', page):
        assert re.fullmatch(r"M[\d.]+[ ][\d.]+(H[\d.]+(V[\d.]+)?)*|M0 5H18", path), path


def test_a_chat_models_strategy_stands_beside_all_that_was_made_of_it() -> None:
    result, events = run()
    events[0]["options"] = {"preset": "paper"}
    words = "## Summary\n" + "wider layers " * 40
    events[3]["texts"] = [words]
    generated = [e for e in events if e["event"] == "completion" and e["role"] == "generator"]
    generated[0]["texts"] = ["y q\ny p\nx p"]
    [only] = rounds(events, result["history"])
    assert [plan.verbatim for plan in only.plans] == [words] and not only.unread
    assert [c.text for c in only.plans[0].candidates] == ["y q", "y p", "x p"]
    assert "<summary>82 words</summary>" in render(result, events)
