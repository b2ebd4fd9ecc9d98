"""What is held out, what is measured on it, and that the training does not notice."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from collm_nas import prompts
from collm_nas.api import Architecture, UserError, Variable
from collm_nas.cli import main
from collm_nas.evaluators.landscape import VALIDATION
from collm_nas.prompts import ANCHOR_TOKEN
from collm_nas.spaces.base import CategoricalSpace
from data_gen.examples import Form
from data_gen.mine import mine
from data_gen.mine_landscapes import Landscapes
from finetune import data, loss, proposals, shared_prompt, tokenizer, validation
from finetune.model_folder import build
from finetune.pretrain import new_model
from finetune.recipes import TINY, Recipe


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "data"
    mine(Landscapes(landscapes=20, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), out)
    return out


@pytest.fixture(scope="module")
def model() -> Any:
    return new_model(TINY.shape, tokenizer.build(), 0)


def test_whole_landscapes_are_held_out_and_never_trained_on(mined: Path, tmp_path: Path) -> None:
    held = data.held_out([mined], 400)
    assert held == {("landscapes", "19", 19)}, "2 % of 20, but at least one: the last"
    tok = tokenizer.build()
    training = data.load(mined, tok, None, tmp_path, held=held)
    measured = data.validation(mined, tok, None, held)
    assert (len(training), len(measured)) == (76, 4)
    trained = {tuple(row["input_ids"]) for row in training}
    assert not trained & {tuple(row["input_ids"]) for row in measured}
    assert len(data.validation(mined, tok, "navigator", held)) == 2


def test_held_out_is_held_out_of_every_dataset(mined: Path, tmp_path: Path) -> None:
    """The same landscapes may be in the datasets of two phases, in another form."""
    other = tmp_path / "other"
    mine(Landscapes(landscapes=30, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), other)
    held = data.held_out([mined, other], 400)
    assert {seed for _, _, seed in held} == {19, 29}
    assert len(data.load(other, tokenizer.build(), None, tmp_path, held=held)) == 28 * 4


def test_few_examples_and_single_units(mined: Path, tmp_path: Path) -> None:
    assert data.held_out([mined], 0) == frozenset()
    assert len(data.held_out([mined], 1)) == 1, "a unit is held out whole"
    alone = tmp_path / "alone"
    mine(Landscapes(landscapes=1, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), alone)
    assert data.held_out([alone], 400) == frozenset()
    assert data.validation(alone, tokenizer.build(), None, frozenset()) == []


def test_no_more_units_than_two_percent_and_than_hold_the_examples(tmp_path: Path) -> None:
    rows = {"miner": ["m"] * 600, "source": ["s"] * 600, "seed": [i // 3 for i in range(600)]}
    pq.write_table(pa.table(rows), tmp_path / "part-00000.parquet")
    assert {seed for _, _, seed in data.held_out([tmp_path], 400)} == {196, 197, 198, 199}
    assert {seed for _, _, seed in data.held_out([tmp_path], 7)} == {198, 199}


def test_the_loss_is_that_of_the_model_s_own(mined: Path, model: Any) -> None:
    tok = tokenizer.build()
    examples = data.validation(mined, tok, None, data.held_out([mined], 400))
    total, count = 0.0, 0
    for row in examples:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        targets = int((labels[:, 1:] != shared_prompt.IGNORED).sum())
        total += float(model(input_ids=ids, labels=labels).loss.detach()) * targets
        count += targets
    assert loss.mean_loss(model, examples, 3) == pytest.approx(total / count, rel=1e-5)


def test_a_first_anchor_counts_more() -> None:
    """Two rows: a strategy of two anchors and a direction, and an answer without anchors; marks 1 and 2."""
    labels = torch.tensor([[-100, 1, 7, 8, 1, 7, 2, 9], [-100, -100, 5, 6, -100, -100, -100, -100]])
    found = loss.weights(labels, [1, 2], 20.0)
    raw = torch.tensor([20.0, 20, 20, 1, 1, 1, 1, 1, 1])
    assert torch.allclose(found, raw / raw.mean())


def test_proposals_are_legal_and_the_first_is_the_likeliest(model: Any) -> None:
    tok = tokenizer.build()
    for question in proposals.questions(2):
        space = question.landscape.space
        found = proposals.first_anchors(model, tok, question)
        assert len(found) == 1 + proposals.BATCHES * proposals.BATCH
        assert all(space.parse(space.format(arch, "compact"), "compact") == arch for arch in found)
    for i, choice in enumerate(found[0].choices):
        assert choice == int(law(model, question, found[0], i).argmax())


def test_proposals_are_drawn_from_the_model_s_law(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "BATCHES", 2000)
    question = proposals.questions(2)[0]
    drawn = [arch.choices for arch in proposals.first_anchors(model, tokenizer.build(), question)[1:]]
    for prefix in ((), drawn[0][:1]):
        chosen = [choices[len(prefix)] for choices in drawn if choices[: len(prefix)] == prefix]
        expected = law(model, question, Architecture("", drawn[0]), len(prefix))
        observed = np.bincount(chosen, minlength=len(expected)) / len(chosen)
        assert np.abs(observed - expected).max() < 3 / len(chosen) ** 0.5


def law(model: Any, question: proposals.Question, arch: Architecture, at: int) -> Any:
    """Probabilities of the variable's choices after the earlier ones of `arch`, without a cache."""
    tok = tokenizer.build()
    pairs = [
        [f"{chr(97 + i)}{c}" for c in range(len(v.choices))] for i, v in enumerate(question.landscape.space.variables)
    ]
    text = question.prompt + ANCHOR_TOKEN + "".join(pairs[i][arch.choices[i]] for i in range(at))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tok(text)["input_ids"]])).logits[0, -1]
    return logits[tok.convert_tokens_to_ids(pairs[at])].softmax(-1).numpy()


def test_regret_is_counted_from_the_optimum_on_reserved_seeds() -> None:
    medians = []
    for question in proposals.questions(2):
        made = question.landscape
        assert made.protocol()["landscape_seed"] >= VALIDATION
        assert 0 <= question.shown < 1 and question.listed >= 0
        points = made.landscape.random_points(400, np.random.default_rng(0))
        regrets = [question.regret(Architecture(made.space.name, tuple(p.tolist()))) for p in points]
        assert min(regrets) > -1e-9
        medians.append(np.median(regrets))
    assert np.mean(medians) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("version", [1, 2])
def test_the_first_line_has_the_most_promising_choices(version: int) -> None:
    space = CategoricalSpace("s", [Variable("v", ("x", "y", "z")), Variable("w", ("p", "q"))])
    archs = list(space.all())
    values = [float(2 * v - w) for v, w in (arch.choices for arch in archs)]
    prompt = prompts.digest(space, archs, values, version=version)
    assert proposals.listed_first(space, prompt).choices == (2, 0)
    regrets = {question.listed for question in proposals.questions(version)}
    assert len(regrets) > 5 and np.mean(list(regrets)) < 0.5


def test_random_numbers_and_the_mode_are_as_before(mined: Path, model: Any) -> None:
    tok = tokenizer.build()
    examples = data.validation(mined, tok, None, data.held_out([mined], 400))
    model.train()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with validation.undisturbed(model):
        assert not model.training
        torch.rand(3), random.random(), np.random.rand()
    found = validation.Validation(examples, tok, 4, 2).measure(model)
    assert set(found) == set(validation.SHOWN)
    assert found["regret_batch"] < found["regret_sampled"]
    assert model.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def every(recipe: Recipe, steps: int) -> Recipe:
    base = tuple(replace(t, validate_every=steps) for t in recipe.base)
    roles = {name: replace(getattr(recipe, name), validate_every=steps) for name in ("navigator", "generator")}
    return replace(recipe, base=base, **roles)


def test_a_training_is_the_same_with_validation_and_without(mined: Path, tmp_path: Path) -> None:
    said: list[str] = []
    build(every(TINY, 0), [mined], tmp_path / "without", said.append)
    assert not [line for line in said if "validation" in line]
    build(every(TINY, 1), [mined], tmp_path / "with", said.append)
    without, with_ = (json.loads((tmp_path / one / "manifest.json").read_text()) for one in ("without", "with"))
    assert with_["weights"] == without["weights"]
    assert (without["validation"], set(with_["validation"])) == ({}, {"base", "navigator", "generator"})
    assert set(with_["validation"]["generator"]) == {"held_out"}
    curve = json.loads((tmp_path / "with" / "navigator" / "loss.json").read_text())
    assert [row["step"] for row in curve if "regret" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in curve if "loss" in row] == [2, 4], "validation takes no line of the loss away"
    card = (tmp_path / "with" / "README.md").read_text()
    assert "Validation at the end, on 1 landscapes" in card
    lines = [line for line in said if line.startswith("navigator: step 4 of 4, loss ")]
    assert len(lines) == 2
    assert all("tokens/s, 0 s left" in line for line in lines)


def test_an_out_of_another_recipe_or_dataset_is_refused(
    mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = ["finetune", "--recipe", "tiny", "--out", str(tmp_path / "out"), "--dataset"]
    (tmp_path / "less.yaml").write_text("navigator: {steps: 2}\nvalidate: 1")
    assert main([*tune, str(mined), "--config", str(tmp_path / "less.yaml")]) == 2
    (tmp_path / "less.yaml").write_text("navigator: {steps: 2}")
    assert main([*tune, str(mined)]) == 0
    assert main([*tune, str(mined)]) == 0, "the same again changes nothing"
    capsys.readouterr()
    assert main([*tune, str(mined), "--config", str(tmp_path / "less.yaml")]) == 2
    assert "was begun with another recipe (navigator.steps 4, not 2)" in capsys.readouterr().err
    mine(Landscapes(landscapes=3, form=Form(targets=1), large=0.0, huge=0.0, real=0.0), tmp_path / "other")
    assert main([*tune, str(tmp_path / "other")]) == 2
    assert "was begun with other datasets" in capsys.readouterr().err
    assert main([*tune, str(mined), "--model", "embedded"]) == 2
    assert "was begun with another --model" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out" / "work")
    assert main([*tune, str(mined), "--config", str(tmp_path / "less.yaml")]) == 2, "as its manifest says"
    assert "was begun with another recipe (navigator.steps 4, not 2)" in capsys.readouterr().err


def test_a_dataset_is_not_written_over(mined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its manifest was, by --out with the folder of --dataset."""
    before = (mined / "manifest.json").read_bytes()
    assert main(["finetune", "--recipe", "tiny", "--dataset", str(mined), "--out", str(mined)]) == 2
    assert "is not of a model that was trained here" in capsys.readouterr().err
    assert (mined / "manifest.json").read_bytes() == before


def test_work_of_a_version_without_held_out_examples_is_not_mixed(mined: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "work" / "base-0" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(UserError, match="held no examples out"):
        build(TINY, [mined], tmp_path / "out", lambda text: None)
    assert not (tmp_path / "out" / "base").exists()
