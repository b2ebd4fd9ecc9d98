"""Checks a run folder: `check_result.py RUN [OTHER]`; with OTHER, that both searches went the same way."""

import json
import sys
from pathlib import Path


def load(run: Path) -> dict:
    """The run's result, after checking that it is whole and agrees with itself."""
    result = json.loads((run / "result.json").read_text())
    history, counts = result["history"], result["counts"]
    assert history, "no evaluation in history"
    assert [row["query"] for row in history] == list(range(1, len(history) + 1))
    assert counts["evaluated"] == len(history) == len({row["arch"] for row in history})
    assert counts["attempted"] >= counts["valid"] >= counts["unique"] >= counts["evaluated"]
    assert result["best"]["fitness"] == max(row["fitness"] for row in history) == history[-1]["best_so_far"]
    assert result["counts_by_proposer"].get("model", {}).get("evaluated", 0) > 0, "the model proposed nothing"
    assert result["seen"] == "unseen", f"the default table is {result['seen']}"
    page = (run / "report.html").read_text()
    assert "://" not in page, "report.html holds an absolute URL"
    assert (run / "journal.jsonl").stat().st_size > 0
    return result


first = load(Path(sys.argv[1]))
if len(sys.argv) > 2:
    second = load(Path(sys.argv[2]))
    assert first["history"] == second["history"], "two searches with one seed went different ways"
print("result.json holds:", first["best"]["arch"], first["best"]["fitness"], first["counts"])
