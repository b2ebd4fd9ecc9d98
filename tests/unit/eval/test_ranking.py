"""The proof of concept: ten of each tenth, and who puts them in order."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from collm_nas.api import Completion, Request, UserError
from eval import command, ranking, ranking_models
from eval.bench import Protocol
from eval.problems import ProblemSpec, load
from eval.rows import Row
from tests.unit.eval.test_bench import arguments

DIGITS = ProblemSpec(kind="digits-cells", fitness="valid")
TRIALS = Protocol(problem=DIGITS, seeds=4)


def trial(row: str, seed: int = 0) -> ranking.Record:
    return ranking.rank(ranking.Ranking(TRIALS, ranking.parse_row(row), seed))


def test_the_ten_come_from_the_ten_tenths_in_order() -> None:
    groups = ranking.deciles(DIGITS)
    values = [[e.fitness for e in load(DIGITS, 0).evaluator.evaluate(group)] for group in groups]
    assert len(groups) == 10 and sum(map(len, groups)) == load(DIGITS, 0).space.size
    assert all(max(low) <= min(high) for low, high in pairwise(values))


def test_evidence_ranks_better_than_chance_and_equal_trials_are_equal() -> None:
    ridge, chance = ([trial(row, seed)["tau"] for seed in range(4)] for row in ("ridge:evidence=200", "random"))
    assert min(ridge) > 0.4 and sum(ridge) > sum(chance) + 1
    assert trial("ridge:evidence=200")["tau"] == ridge[0]
    assert ranking.Ranking(TRIALS, ranking.parse_row("random"), 0).key() != "", "a search's key is another"


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("2, 1, 3", [1, 0, 2]),
        ("Of the 3, I think:\n3, 1, 2", [1, 2, 0]),
        ("1, 2, 2", None),
        ("1, 2", None),
        ("none", None),
    ],
)
def test_an_order_is_read_from_words(text: str, order: list[int] | None) -> None:
    assert ranking_models.read_order(text, 3) == order


class Answers:
    """An engine that knows the truth and says it in words, at the attempt that it is told."""

    def __init__(self, right_at: int) -> None:
        self.asked: list[Request] = []
        self._right_at = right_at

    def describe(self) -> dict[str, object]:
        return {}

    def generate(self, request: Request) -> list[Completion]:
        self.asked.append(request)
        space, evaluator = load(DIGITS, 0).space, load(DIGITS, 0).evaluator
        lines = [line for line in request.prompt.splitlines() if line[:1].isdigit()]
        listed = {number: space.parse(text) for number, _, text in (line.partition(". ") for line in lines)}
        order = sorted(listed, key=lambda number: -evaluator.evaluate([listed[number]])[0].fitness)
        text = ", ".join(order) if len(self.asked) == self._right_at else "They are all good."
        return [Completion(text, 5, 50, 0.1)]


@pytest.mark.parametrize(("right_at", "tau", "asked"), [(1, 1.0, 1), (3, 1.0, 3), (9, 0.0, 3)])
def test_a_model_that_ranks_in_words_is_asked_three_times(
    right_at: int, tau: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Answers(right_at)
    options = {"preset": "paper", "reasoning": 0}
    monkeypatch.setattr("eval.model_row.engine_of", lambda row: (engine, dict(options)))
    row = Row("collm", "collm", (("preset", "paper"),))
    monkeypatch.setattr(ranking.Ranking, "key", lambda self: "k")
    record = ranking.rank(ranking.Ranking(TRIALS, row, 0))
    assert record["tau"] == pytest.approx(tau, abs=0.06), "but for cells of one value"
    assert (len(engine.asked), record["readable"], record["tokens_completion"]) == (asked, right_at < 9, 5 * asked)
    assert len({request.seed for request in engine.asked}) == asked


def test_a_tuned_model_ranks_by_its_probabilities(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A tiny random model: all ten get a probability, and the trial is the same again."""
    from tests.inference.small import build_model

    folder = build_model(tmp_path_factory.mktemp("model"))
    row = ranking.parse_row("collm:evidence=12", {"model": str(folder)})
    job = ranking.Ranking(TRIALS, row, 1)
    first, again = ranking.rank(job), ranking.rank(job)
    assert first["tau"] == again["tau"] and -1 <= first["tau"] <= 1
    assert first["readable"] and first["seen"] == "unseen" and first["tokens_completion"] > 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("gp", "'gp' can't rank; legal for a ranking: collm, ridge, flops, params, random"),
        ("ridge:evidence=many", "evidence=many in 'ridge:evidence=many' must be a whole number"),
        ("random:evidence=3", "'random' has no option 'evidence' in a ranking"),
        ("collm:variant=blind", "names a variant of a search"),
    ],
)
def test_a_wrong_row_of_a_ranking_is_named(row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ranking.parse_row(row)


def test_landscapes_have_no_deciles() -> None:
    with pytest.raises(UserError, match="a ranking needs a table"):
        ranking.deciles(ProblemSpec(kind="landscapes"))


def test_the_command_ranks(tmp_path: Path) -> None:
    path = tmp_path / "rank.yaml"
    path.write_text("kind: ranking\nproblem: digits-cells\nseeds: 3\nrows: [random, flops, 'ridge:evidence=50']\n")
    out = tmp_path / "out"
    assert command.run(arguments("--protocol", str(path), "--processes", "1", "--out", str(out))) == 0
    lines = json.loads((out / "bench.json").read_text())["rows_summary"]
    assert [line["row"] for line in lines] == ["random", "flops", "ridge:evidence=50"]
    assert "| ridge:evidence=50 | 3 | " in (out / "table.md").read_text()
