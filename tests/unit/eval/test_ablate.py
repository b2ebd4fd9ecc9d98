"""Ablations by the embedded model on little budgets: shared cells, failures, resuming, answers, files."""

from __future__ import annotations

import csv
import itertools
import json
import random
from pathlib import Path

import pytest
from pyarrow import parquet

from collm_nas import cli, prompts, spaces
from collm_nas.api import Candidate, Completion, Evaluation, Observation, Problem, UserError
from eval import ablate, ablate_page, ablations, variants
from eval.ablations import DEFAULT, Question, cell
from eval.bench import Protocol
from eval.problems import ProblemSpec

DIGITS = ProblemSpec(kind="digits-cells", fitness="valid", report=("test",))
SMALL = Protocol(problem=DIGITS, budget=14, init=8, batch=3, seeds=2)
BROKEN = cell("broken", grammar_backend="no-such-backend")
QUESTIONS = (
    Question("one", "Does it end?", (DEFAULT, cell("blind", variant="blind"), BROKEN)),
    Question("two", "Do labels matter?", (DEFAULT, cell("choices relabelled", relabel=True))),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablate")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, list[ablate.Record]]:
    return ablate.run(SMALL, QUESTIONS, folder / "searches.jsonl", {})


def test_each_cell_is_searched_once_and_a_failure_does_not_lose_the_rest(found, folder):
    assert {label: len(records) for label, records in found.items()} == {
        "default": 2, "blind": 2, "broken": 2, "choices relabelled": 2,
    }  # fmt: skip
    assert all("no-such-backend" in record["error"] for record in found["broken"])
    assert all(len(record["curve"]) == 14 for label in ("default", "blind") for record in found[label])
    assert len((folder / "searches.jsonl").read_text().splitlines()) == 8


def test_only_failures_are_tried_again(found, folder):
    tried: list[tuple[int, int]] = []
    again = ablate.run(SMALL, QUESTIONS, folder / "searches.jsonl", {}, progress=lambda *done: tried.append(done))
    assert tried == [(7, 8), (8, 8)]
    assert again["default"] == found["default"]


def test_a_line_torn_by_a_kill_is_searched_again(found, folder, tmp_path):
    lines = (folder / "searches.jsonl").read_bytes().splitlines(keepends=True)
    good = [line for line in lines if b'"error": ' not in line]
    bad = [line for line in lines if b'"error": ' in line]
    torn = tmp_path / "searches.jsonl"
    torn.write_bytes(b"".join([*bad, *good[:-1], good[-1][:50]]))
    tried: list[tuple[int, int]] = []
    again = ablate.run(SMALL, QUESTIONS, torn, {}, progress=lambda *done: tried.append(done))
    assert tried == [(6, 8), (7, 8), (8, 8)], "both failures and the torn one"
    assert {label: len(records) for label, records in again.items()} == dict.fromkeys(found, 2)


def test_the_answer_names_interval_and_failure(found):
    lines = [ablate.line(c.label, found[c.label], found["default"]) for c in QUESTIONS[0].cells]
    assert lines[0].against.difference.mean == 0 and lines[0].valid == 1
    said = ablate.answer(lines)
    assert "blind: not yet to be told from default (normalised regret " in said and "apart on 2 seeds)" in said
    assert "broken: failed, UserError: there is no grammar backend 'no-such-backend'" in said


def test_tables_hold_a_row_a_search(found, tmp_path):
    ablate.write(tmp_path, found)
    rows = list(csv.DictReader((tmp_path / "ablate.csv").read_text().splitlines()))
    assert len(rows) == 8 and set(ablate.TIDY) == set(rows[0])
    default = next(row for row in rows if row["cell"] == "default")
    assert default["attempted"] == default["valid"] == default["unique"] == default["evaluated"] == "6"
    assert parquet.read_table(tmp_path / "ablate.parquet").to_pylist() == ablate.tidy(found)
    curves = list(csv.DictReader((tmp_path / "curves.csv").read_text().splitlines()))
    assert len(curves) == 6 * 14


def test_the_page_holds_every_question_and_no_request(found):
    made = ablate_page.page(QUESTIONS, found, "protocol <b>", "embedded")
    assert all(question.text in made for question in QUESTIONS)
    assert "<b>" not in made.split("<main>")[1].split("</header>")[0], "names are escaped"
    assert "http" not in made and "<script" not in made and made.count("<svg") == 2


def test_every_question_is_complete():
    for name in ablations.names():
        question = ablations.load(name)
        assert question.text.endswith("?")
        assert all(set(question.cells[0].options) <= set(c.options) for c in question.cells), "the others add to it"
        assert len({c.label for c in question.cells}) == len(question.cells) > 1
        for c in question.cells:
            assert dict(c.options).get("variant") in (None, *variants.NAMES)
    with pytest.raises(UserError, match=r"--question .mods. is unknown; legal: .*modes"):
        ablations.load("mods")


@pytest.mark.parametrize("variant", variants.NAMES)
def test_variants_search_to_the_end(variant, tmp_path):
    question = Question("q", "?", (cell("c", variant=variant),))
    protocol = Protocol(problem=DIGITS, budget=10, init=6, batch=4, seeds=1)
    (record,) = ablate.run(protocol, [question], tmp_path / "s.jsonl", {})["c"]
    assert "error" not in record and len(record["curve"]) == 10


def test_permuted_scores_reach_the_navigator_and_the_truth_is_kept(tmp_path):
    """On the same seed the first candidates differ, since the digest does, but what is remembered is right."""
    records = ablate.run(
        SMALL, [Question("q", "?", (DEFAULT, cell("p", variant="permuted-scores")))], tmp_path / "s", {}
    )
    assert records["default"][0]["curve"][:8] == records["p"][0]["curve"][:8]
    assert [r["counts"] for r in records["p"]] == [r["counts"] for r in records["default"]]


def test_repair_keeps_what_is_legal():
    space, rng = spaces.load("digits-cells"), random.Random(0)
    arch = space.sample(rng)
    text = space.format(arch, "compact")
    assert variants.repaired(space, text, rng) == arch
    assert variants.repaired(space, f"{text[:4]}z9{text[4:]}??", rng) == arch
    assert variants.repaired(space, text[:4], rng).choices[:2] == arch.choices[:2]


def test_the_command_prints_answers_and_goes_on(tmp_path, capsys):
    arguments = [
        "ablate",
        "--question",
        "strategies",
        "--seeds",
        "1",
        "--budget",
        "12",
        "--init",
        "8",
        "--processes",
        "1",
    ]
    assert cli.main([*arguments, "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "Does a strategy for each candidate beat one a round" in said and "one strategy a round: not yet" in said
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "ablate.csv", "ablate.parquet", "ablate.html", "curves.csv", "searches.jsonl",
    }  # fmt: skip
    kept = (tmp_path / "a" / "searches.jsonl").read_bytes()
    assert cli.main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "searches.jsonl").read_bytes() == kept
    assert json.loads(kept.splitlines()[0])["row"] == "default"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--question", "nothing"], "--question 'nothing' is unknown; legal: "),
        (["--problem", "table"], "--problem table needs --space and --table"),
        (["--seeds", "0"], "--seeds must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_cell_may_be_shorter_never_longer_than_the_rest():
    short = cell("short", protocol={"seeds": 3, "budget": 12, "batch": 20})
    jobs = ablate.jobs(SMALL, short, {})
    assert [job.seed for job in jobs] == [0, 1]
    assert {(j.protocol.budget, j.protocol.batch, j.protocol.init) for j in jobs} == {(12, 20, 8)}
    assert ablate.jobs(SMALL, cell("long", protocol={"budget": 500}), {})[0].protocol.budget == 14
    assert jobs[0].key() != ablate.jobs(SMALL, cell("short"), {})[0].key()


def test_random_ones_for_want_of_a_proposal_are_not_the_models(found):
    record = json.loads(json.dumps(found["default"][0]))
    model = record["counts_by_proposer"]["model"]
    record["counts_by_proposer"]["fallback"], record["counts_by_proposer"]["model"] = model, dict.fromkeys(model, 0)
    record["by_proposer"] |= {"fallback": model["evaluated"], "model": 0}
    made = ablate.line("mute", [record], found["default"])
    assert (made.attempted, made.evaluated, made.fallback) == (0, 0, model["evaluated"])
    said = ablate.answer([ablate.line("default", found["default"], found["default"]), made])
    assert f"{model['evaluated']} evaluations a search were random" in said


def test_a_question_may_be_about_something_else_than_regret(found):
    question = ablations.load("diversity")
    assert question.measure == "diversity" and question.measure in ablate.TIDY
    made = Question("d", "Narrower?", QUESTIONS[0].cells[:2], "diversity")
    first, other = ablate.lines(made, found)
    expected = [r["diversity"] for r in found["blind"]]
    assert other.diversity == pytest.approx(sum(expected) / 2)
    assert other.against.difference.mean == pytest.approx(other.diversity - first.diversity)
    assert "diversity" in ablate.answer([first, other], "diversity")


# --- strategies and their first anchors -------------------------------------------------------------------------------


class Script:
    """An engine that writes these strategies, from the first again when they are used up, and candidates `filled`."""

    def __init__(self, space, firsts, filled):
        self.space, self.filled, self.asked = space, list(filled), []
        self.plans = itertools.cycle(prompts.empty_strategy(space, [first] * 3).compact(space) for first in firsts)

    def generate(self, request):
        self.asked.append((request.role, request.n))
        if request.role == "navigator":
            return [Completion(next(self.plans), 1, 1, 0.0) for _ in range(request.n)]
        taken = [self.filled.pop(0) for _ in range(request.n)]
        return [Completion(self.space.format(arch, "compact"), 1, 1, 0.0) for arch in taken]

    def describe(self):
        return {}


@pytest.mark.parametrize(
    ("variant", "strategies", "filled", "wanted"),
    [("anchors", 3, 2, [2, 8, 9]), ("fresh", 9, 3, [8, 9, 7]), ("fresh-anchors", 9, 0, [2, 3, 4])],
)
def test_first_anchors_that_are_new_are_taken(variant, strategies, filled, wanted):
    """Strategies lead to 0, which was visited, to 2, to 2 again, to 3, 4 and so on."""
    space, rng = spaces.load("digits-cells"), random.Random(0)
    archs = [space.sample(rng) for _ in range(10)]
    script = Script(space, [archs[i] for i in (0, 2, 2, 3, 4, 5)], [archs[8], archs[9], archs[7]])
    search = variants.create(variant, Problem(space, 0, 10), script)
    search.tell([Observation(Candidate(archs[0], "init"), "evaluated", Evaluation(1.0))])
    assert [archs.index(candidate.arch) for candidate in search.ask(3)] == wanted
    assert script.asked[0] == ("navigator", strategies)
    assert sum(n for role, n in script.asked if role == "generator") == filled
