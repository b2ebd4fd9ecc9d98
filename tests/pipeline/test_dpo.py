"""Preferences in hindsight: what the trainer starts from, that it learns, and that both commands make a model."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from collm_nas.cli import main
from finetune import dpo, pairs
from finetune.recipes import Preference
from finetune.watch import Watch
from tests.inference.small import build_model
from tests.inference.small import load_model as load

STAGE = Preference(steps=2, batch=4, micro_batch=2, log_every=1)
ADAPTER = "navigator/adapter_model.safetensors"
MINE = ["mine", "--source", "hindsight", "--landscapes", "4", "--large", "0", "--huge", "0", "--real", "0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("dpo") / "model")


@pytest.fixture(scope="module")
def mined(model: Path) -> Path:
    few = ["--longest", "15", "--margin", "0", "--strategies", "2", "--batches", "1", "--processes", "1"]
    assert main([*MINE, *few, "--model", str(model), "--out", str(model.parent / "mined")]) == 0
    return model.parent / "mined"


def test_pairs_are_tokenized_as_examples_are(model: Path, mined: Path) -> None:
    from finetune import data

    tokenizer = load(model).tokenizer
    columns = pairs.load([mined], tokenizer)
    held = data.held_out([mined], 10**6)
    examples = data.validation(mined, tokenizer, "navigator", held)
    chosen = zip(columns["prompt_ids"], columns["chosen_ids"], strict=True)
    last = [prompt + answer for prompt, answer in chosen][-len(examples) :]
    assert [one["input_ids"] for one in examples] == last
    assert all(answer[-1] == tokenizer.eos_token_id for answer in columns["rejected_ids"])
    assert columns["rejected_ids"] != columns["chosen_ids"]


@pytest.mark.parametrize("sft", [0.0, 0.5])
def test_it_starts_from_its_reference(model: Path, mined: Path, tmp_path: Path, sft: float) -> None:
    """Before the first update no answer is likelier than before, and the loss is that of a coin, log 2; it is the
    Navigator alone that learns."""
    policy = load(model)
    columns = pairs.load([mined], policy.tokenizer)
    trainer: Any = dpo.create(policy, model / "navigator", replace(STAGE, sft=sft), columns, tmp_path)
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    loss = trainer.compute_loss(trainer.model, batch).item()
    assert abs(trainer._metrics["train"]["rewards/margins"][0]) < 1e-5
    assert (loss > 1) if sft else (loss == pytest.approx(math.log(2), abs=1e-5))
    learns = {name.split(".")[-2] for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert learns == {"navigator"}


def test_the_better_answers_become_likelier_than_the_worse(model: Path, mined: Path, tmp_path: Path) -> None:
    policy = load(model)
    columns = pairs.load([mined], policy.tokenizer)
    said: list[str] = []
    stage = replace(STAGE, steps=12, learning_rate=5e-3, warmup=0)
    rows = dpo.run(policy, model / "navigator", stage, columns, tmp_path, Watch("navigator", said.append))
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-4) and rows[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["loss"] < 0.5 and rows[-1]["margin"] > 0.5 and rows[-1]["accuracy"] == 1
    assert len(said) == 12 and "loss 0.6931, margin" in said[0]


CONFIG = "preference: {steps: 3, batch: 4, micro_batch: 2, save_every: 1, log_every: 1, validate_every: 3}"


@pytest.fixture(scope="module")
def tuned(model: Path, mined: Path) -> Iterator[Path]:
    (model.parent / "config.yaml").write_text(CONFIG)
    assert main(_line(model, mined, model.parent / "tuned")) == 0
    yield model.parent / "tuned"


def _line(model: Path, mined: Path, out: Path) -> list[str]:
    config = str(model.parent / "config.yaml")
    line = ["finetune", "--recipe", "dpo", "--model", str(model), "--dataset", str(mined)]
    return [*line, "--config", config, "--out", str(out)]


def test_the_commands_leave_a_model_that_searches(model: Path, mined: Path, tuned: Path, tmp_path: Path) -> None:
    for part in ("base/model.safetensors", "generator/adapter_model.safetensors", "base/tokenizer.json"):
        assert (tuned / part).read_bytes() == (model / part).read_bytes(), "as it was"
    assert (tuned / ADAPTER).read_bytes() != (model / ADAPTER).read_bytes()
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["sources"] == {"nothing": "0" * 64}, "what the model before had seen"
    assert manifest["datasets"][-1]["miner"] == "hindsight" and manifest["datasets"][-1]["sources"]
    assert manifest["recipe"]["preference"]["steps"] == 3 and ADAPTER in manifest["weights"]
    assert manifest["preferred"]["loss"]["first"] < 0.7 and "regret" in manifest["validation"]["navigator"]
    rows = json.loads((tuned / "navigator" / "loss.json").read_text())
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert all({"margin", "accuracy"} <= row.keys() for row in rows if "loss" in row)
    card = (tuned / "README.md").read_text()
    assert "with --config FILE: preference.steps 3, " in card and ", preference.batch 4" in card
    assert main(["search", "--model", str(tuned), "--budget", "16", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["counts"]["evaluated"] == 16


def test_a_killed_run_goes_on_to_the_same_weights(model: Path, mined: Path, tuned: Path) -> None:
    again = tuned.parent / "again"
    shutil.copytree(tuned / "work", again / "work")
    shutil.rmtree(again / "work" / "navigator" / "checkpoint-3")
    assert main(_line(model, mined, again)) == 0
    assert (again / ADAPTER).read_bytes() == (tuned / ADAPTER).read_bytes()


def test_a_finished_folder_is_left_alone(model: Path, mined: Path, tuned: Path) -> None:
    before = (tuned / ADAPTER).stat().st_mtime_ns
    assert main(_line(model, mined, tuned)) == 0
    assert (tuned / ADAPTER).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beta": 0}, "`preference.beta` must be more than 0"),
        ({"batch": 0}, "must be at least 1"),
        ({"learning": 1}, "`preference.learning` is unknown"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    model: Path, mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.dump({"preference": changes}))
    line = ["finetune", "--recipe", "dpo", "--model", str(model), "--dataset", str(mined)]
    assert main([*line, "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "none")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()


def test_each_recipe_wants_its_own_kind_of_dataset(
    model: Path, mined: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mine", "--landscapes", "1", "--processes", "1", "--out", str(tmp_path / "examples")]) == 0
    shutil.copytree(mined, tmp_path / "other")
    manifest = json.loads((mined / "manifest.json").read_text())
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({**manifest, "digest_version": 1}))
    capsys.readouterr()
    out = ["--out", str(tmp_path / "none")]
    with_model = ["finetune", "--recipe", "dpo", "--model", str(model), *out]
    for given, said in (
        ([*with_model, "--dataset", str(tmp_path / "examples")], "holds no pairs of answers"),
        (["finetune", "--recipe", "tiny", "--dataset", str(mined), *out], "holds pairs of answers, which --recipe dpo"),
        (
            ["finetune", "--model", str(model), "--dataset", str(mined), *out],
            "the recipe 'adapters' learns from examples",
        ),
        ([*with_model, "--dataset", str(tmp_path / "other")], "the dataset has version 1"),
        (with_model, "learns from a dataset; say which: --dataset DIR"),
        (["finetune", "--recipe", "dpo", "--dataset", str(mined), *out], "say which: --model DIR"),
        ([*with_model, "--dataset", str(mined), "--merge"], "takes no --merge"),
        ([*_line(model, mined, tuned), "--model", str(tuned)], "was begun with other datasets"),
    ):
        assert main(given) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()
