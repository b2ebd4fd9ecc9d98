"""The pages in a real browser: nothing is fetched, nothing complains, nothing sticks out or is cut, and all text can be
read. Skipped without Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from collm_nas import spaces
from eval import compare
from eval.report import render
from tests.unit.eval import made

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
WIDTHS = (1280, 400)
READABLE = 10.9
"""Least size of a drawing's text, in pixels: 11, less what a scroll bar takes from the page."""
LOOK = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const inside = frame.contentWindow, page = inside.document.documentElement;
    const wide = [...inside.document.querySelectorAll("main *")].filter(e => {
      const box = e.getBoundingClientRect();
      return box.width > 1 && (box.right > page.clientWidth + 1 || box.left < -1);
    });
    const cut = [], sizes = [];
    for (const svg of inside.document.querySelectorAll(".curve, .cell")) {
      const box = svg.getBoundingClientRect();
      for (const e of box.width ? svg.querySelectorAll("text, rect, path, line, circle, polygon") : []) {
        const own = e.getBoundingClientRect(), over = Math.max(
          box.left - own.left, own.right - box.right, box.top - own.top, own.bottom - box.bottom);
        if (over > 0.5) cut.push(svg.getAttribute("class") + " " + e.tagName + " " + e.textContent);
        if (e.tagName === "text")
          sizes.push(parseFloat(inside.getComputedStyle(e).fontSize) * box.width / svg.viewBox.baseVal.width);
      }
    }
    return {name: frame.title, width: page.clientWidth, needed: page.scrollWidth,
            cut: cut.slice(0, 3), smallest: Math.min(...sizes),
            fetched: inside.performance.getEntriesByType("resource").length,
            wide: wide.slice(0, 3).map(e => e.tagName + "." + e.getAttribute("class") + " " + e.textContent)};
  });
  document.body.innerHTML = "<pre id='found'></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


def pages() -> dict[str, str]:
    """Pages of all kinds by name."""
    ofa, cells = spaces.load("ofa-mbv3"), spaces.load("nasbench201")
    digits = spaces.load("digits-cells")
    two = [compare.Run(f"a/long/path/to/the-run-number-{i}", *made.run(cells, 20, seed=i)) for i in range(2)]
    return {
        "staged": render(*made.run(ofa, 30, caps={"flops": 4e8, "params": 6e6})),
        "cell": render(*made.run(cells, 30, models=False)),
        "strategies": render(*made.run(digits, 60)),
        "comparison": compare.render(two),
    }


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed here")
def test_pages_in_a_browser(tmp_path: Path) -> None:
    frames = "".join(
        f'<iframe title="{name} at {width}" width="{width}" height="900" srcdoc="{escape(page)}"></iframe>'
        for name, page in pages().items()
        for width in WIDTHS
    )
    (tmp_path / "look.html").write_text(f"<!doctype html><script>{LOOK}</script><body>{frames}</body>", "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/me",
    ]
    done = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "look.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=280,
    )
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stderr[-2000:]
    found = json.loads(unescape(told[1]))
    for frame in found:
        assert frame["needed"] <= frame["width"] and not frame["wide"], frame
        assert frame["fetched"] == 0, frame
        assert not frame["cut"] and frame["smallest"] >= READABLE, frame
    assert len(found) == 8
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
