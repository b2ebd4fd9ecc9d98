from __future__ import annotations

import pytest
from rich.console import Console

from eval.stacked import Column, stacked

LABELS = ["random", "collm:variant=pick-of-10:temperature=0.7 [trial]"]
COLUMNS: list[Column] = [(f"figure {i}", [f"{i}.1 [0.000, 0.{n:04d}]" for n in range(2)]) for i in range(9)]


def printed(width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as kept:
        console.print(stacked(LABELS, COLUMNS, "the title", "what it stands for", width))
    return kept.get().splitlines()


@pytest.mark.parametrize(("width", "tables"), [(300, 1), (120, 3), (60, 9), (30, 9)])
def test_as_few_tables_as_fit_hold_all_figures(width: int, tables: int) -> None:
    lines = printed(width)
    assert all(len(line) <= width for line in lines)
    assert sum("row" in line for line in lines) == tables
    if width >= 60:
        text = "\n".join(lines)
        assert all(text.count(cell) == 1 for _, cells in COLUMNS for cell in cells)
    assert lines[0].strip() == "the title" and lines[-1].strip() == "what it stands for"


def test_a_long_name_goes_on_in_the_next_line_and_is_no_markup() -> None:
    cells = [line.split("│")[1].strip() for line in printed(120) if line.startswith("│")]
    names = "".join(cells).replace(" ", "")
    assert names == 3 * "".join(LABELS).replace(" ", "") and max(map(len, cells)) <= 30
