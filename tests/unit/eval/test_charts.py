"""The drawings of the report say what they should, and stay small."""

from __future__ import annotations

import copy
import re
from html import escape, unescape

import pytest

from collm_nas import spaces
from eval import compare, favoured, network, scatter
from eval.chart import MOST, evenly
from eval.curve import drawn
from eval.front import front_card
from eval.page import card
from eval.report import render
from eval.rounds import rounds
from eval.told import MOST as ROUNDS
from tests.unit.eval import made
from tests.unit.eval.test_report import EVIL, Page

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"


def test_a_cell_is_a_graph_with_an_edge_an_operation() -> None:
    drawing = network.draw(spaces.load("nasbench201"), CELL)
    wide, narrow, caption = drawing.split("</svg>")
    for graph in (wide, narrow):
        assert graph.count('class="edge"') == graph.count("<polygon") == 4
        assert graph.count('class="edge empty"') == 2
        assert "1 to 2: skip_connect" in graph and 'role="img"' in graph
    ids = re.findall(r'\bid="([^"]+)"', drawing)
    assert len(ids) == len(set(ids)) == 4 and "A node sums its edges" in caption


def test_a_staged_network_shows_the_blocks_in_use_alone() -> None:
    space = spaces.load("digits-mbconv")
    arch = space.parse({"d": [1, 3, 2], "ks": 5, "e": 3})
    drawing = network.draw(space, space.format(arch))
    assert drawing.count("<b>5 x 5</b>") == 6 and "3 x 3" not in drawing and "expand 3" in drawing


def test_any_other_space_is_a_list_of_choices_and_names_are_escaped() -> None:
    from collm_nas.api import Variable
    from collm_nas.spaces.base import CategoricalSpace

    space = CategoricalSpace("other", [Variable("v", (f"x{EVIL}", f"y{EVIL}")), Variable("b", ("p", "q"))])
    result, events = made.run(space, 12, models=False)
    page = render(result, events)
    assert EVIL not in page and re.search("<dt>v</dt><dd>.*<b>[xy]&lt;script&gt;", page)
    assert not [tag for tag, _ in Page(page).tags if tag == "script"]
    assert EVIL not in compare.render([compare.Run(f"{EVIL}{i}", result, events) for i in range(2)])


def test_an_architecture_that_the_space_cannot_read_is_not_drawn() -> None:
    assert network.draw(spaces.load("nasbench201"), "another version's") == ""


def test_the_front_is_what_nothing_beats_in_both() -> None:
    history = [{"fitness": f, "feasible": ok} for f, ok in ((5, True), (7, True), (6, True), (9, False), (8, True))]
    assert scatter.front(history, [10, 20, 30, 15, 40]) == [0, 1, 4]


def test_costs_with_a_cap_are_drawn_else_the_first_that_differs() -> None:
    rows = [{"params": 1.0, "flops": 3.0, "latency": 2.0}, {"params": 1.0, "flops": 4.0, "latency": 1.0}]
    assert scatter.shown_costs(rows, {}) == ["flops"]
    assert scatter.shown_costs(rows, {"latency": 2.0, "flops": 9.0}) == ["flops", "latency"]
    assert scatter.shown_costs([*rows, {}], {}) == []


def test_the_card_of_a_front_lists_it_with_every_cost_and_is_escaped() -> None:
    front = [
        {"arch": "<b>", "fitness": 95.5, "costs": {"flops": 2e6, "params": 3.0, "latency": 9.0}, "query": 3},
        {"arch": "c", "fitness": 90.25, "costs": {"flops": 1e6, "params": 4.0, "latency": 8.0}, "query": 1},
    ]
    volume = {"value": 12.5, "reference": {"fitness": 80.0, "flops": 3e6, "params": 9.0}}
    result = {"front": front, "objectives": ["fitness", "flops", "params"], "hypervolume": volume, "history": front}
    shown_card = front_card(result)
    for shown in (
        "&lt;b&gt;",
        "95.5000",
        "2 M",
        "multiply-adds",
        "parameters",
        "flops and params",
        "12.5",
        "flops 3 M",
    ):
        assert shown in shown_card, shown
    assert "<b>" not in shown_card and "latency" not in shown_card and "2 architectures" in shown_card
    assert front_card({"history": []}) == ""


def test_the_map_follows_the_strategies_and_else_the_evaluations() -> None:
    space = spaces.load("digits-cells")
    result, events = made.run(space, 30)
    told = rounds(events, result["history"])
    found = favoured.of_strategies(told, space, 36)
    assert found is not None and found.unit == "round" and found.spans == tuple((i, i) for i in range(1, 6))
    first = [plan.strategy.directions[0].first for plan in told[0].plans if plan.strategy]
    cell = found.cells[0][0]
    assert len(first) == 2 and cell is not None and cell.choice == min(first)
    assert favoured.of_strategies([], space, 36) is None
    evaluated = favoured.of_history(result["history"], space, 3)
    assert evaluated is not None and evaluated.spans == ((1, 10), (11, 20), (21, 30))


def test_a_map_of_46_variables_has_a_line_for_each() -> None:
    space = spaces.load("ofa-mbv3")
    result, events = made.run(space, 60)
    found = favoured.of_strategies(rounds(events, result["history"]), space, 10)
    assert found is not None
    drawing = favoured.draw(found, space, width=400, name="narrow")
    names = re.findall(r'<text x="0" y="\d+" dy="15">([^<]+)<title>', drawing)
    assert names == [v.name for v in space.variables]
    assert max(float(x) + float(w) for x, w in re.findall(r'x="([\d.]+)" y="\d+" width="([\d.]+)"', drawing)) <= 400


def test_ten_thousand_evaluations_make_a_page_of_three_megabytes_at_most() -> None:
    result, events = made.run(spaces.load("ofa-mbv3"), 10_000)
    page = render(result, events)
    assert len(page.encode()) < 3_000_000
    assert f"{len(drawn(result['history'])):,} of 10,000 evaluations are drawn" in page
    assert page.count('<article class="round">') <= ROUNDS
    assert " of 1999 rounds are told here" in page
    best = next(row["query"] for row in result["history"] if row["arch"] == result["best"]["arch"])
    assert best - 1 in drawn(result["history"]), "the winner is among the points"


def test_a_candidate_and_its_outcome_are_one_row() -> None:
    """They were two lists side by side: long architectures wrapped, and the figures stood beside the wrong ones."""
    result, events = made.run(spaces.load("ofa-mbv3"), 20)
    page = render(result, events)
    for row in result["history"][5:]:
        text, fitness = re.escape(escape(row["arch"])), re.escape(f"{row['fitness']:.4f}")
        assert re.search(f"<code>{text}</code></td><td>{fitness}</td></tr>", page), row


def test_an_even_selection_keeps_what_must_stay() -> None:
    kept = evenly(10 * MOST, always=[17, 10 * MOST - 1])
    assert {17, 10 * MOST - 1} <= set(kept) and len(kept) <= MOST + 2 and kept == sorted(kept)
    assert evenly(5) == [0, 1, 2, 3, 4]


def test_runs_are_compared() -> None:
    space = spaces.load("digits-cells")
    runs = [compare.Run(name, *made.run(space, 30, models=name == "a", seed=i)) for i, name in enumerate("ab")]
    page = compare.render(runs)
    shown = Page(page)
    lines = [a for tag, a in shown.tags if tag == "path" and str(a.get("class")).startswith("run r")]
    assert len(lines) == len(runs) * 2 * (2 + 1), "each run by query and by time, in two drawings and a legend"
    for run in runs:
        assert f"{run.result['best']['fitness']:.4f}" in shown.text
    found = compare.differences(runs)
    assert found["optimizer"] == {"collm": ["a"], "random": ["b"]} and found["seed"] == {"0": ["a"], "1": ["b"]}
    assert "budget" not in found and "not comparable" not in page
    ids = [a["id"] for _, a in shown.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert "://" not in page and page == compare.render(runs)


def test_runs_that_measure_different_things_are_warned_of() -> None:
    result, events = made.run(spaces.load("digits-cells"), 10)
    other = copy.deepcopy(result)
    other["protocol"]["fitness"] = "test"
    page = compare.render([compare.Run("a", result, events), compare.Run("b", other, events)])
    assert "not comparable: fitness differ" in unescape(page)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG AA), for every colour of text on every ground that it is used on."""
    from importlib import resources

    style = resources.files("eval").joinpath("report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    colours = dict(re.findall(r"--([\w]+): (#\w+);", blocks[["light", "dark", "print"].index(scheme)]))
    for ink in ("ink", "soft", "good", "warn"):
        for ground in ("page", "card"):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for hue in range(favoured.HUES):
        assert _contrast(colours["ink"], colours[f"h{hue}"]) >= 4.5, hue


def _contrast(a: str, b: str) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_heading_is_escaped() -> None:
    assert EVIL not in card(EVIL, "")
