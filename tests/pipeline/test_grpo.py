"""Reinforcement of the Navigator: trainer and sampler agree, rewards move the model, the command makes a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from collm_nas import rollouts
from collm_nas.cli import main
from collm_nas.evaluators.landscape import Family, draw
from collm_nas.strategy import Strategy
from finetune import groups, grpo
from finetune.recipes import Reinforcement
from finetune.watch import Watch
from tests.inference.small import build_model
from tests.inference.small import load_model as load

STAGE = Reinforcement(
    steps=2, searches=2, points=1, group=4, longest=15, large=0.0, huge=0.0, real=0.0, micro_batch=4, log_every=1
)
MADE = draw(5, family=Family(variables=(4, 4), choices=(3, 4), conditional=0.0, capped=0.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("grpo") / "model")


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_trainer_and_sampler_agree_on_every_token(model: Path, tmp_path: Path, beta: float) -> None:
    """Before the first update; prompts of several lengths stand side by side, and the reference is the model itself."""
    import torch

    stage = replace(STAGE, beta=beta)
    trainer: Any = grpo.create(load(model), model / "navigator", stage, tmp_path)
    rows = [{"prompt": str(row)} for row in (0, 1) for _ in range(stage.group)]
    trainer.model.train()
    made = trainer._generate_and_score_completions(rows)
    assert len({int(n) for n in made["prompt_mask"].sum(1)}) > 1
    trainer._allowed_BTK = made["allowed"]
    ids = torch.cat([made["prompt_ids"], made["completion_ids"]], 1)
    mask = torch.cat([made["prompt_mask"], made["completion_mask"]], 1)
    width = made["completion_ids"].shape[1]
    logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, batch_size=4)
    real = made["completion_mask"].bool()
    ratios = (logps - made["sampling_per_token_logps"]).exp()[real]
    assert ratios.max() < 1 + 1e-4 and ratios.min() > 1 - 1e-4
    assert (made["sampling_per_token_logps"][real & (made["tool_mask"] == 0)] == 0).all()
    assert (logps[real & (made["tool_mask"] == 0)] == 0).all()
    if beta:
        assert torch.allclose(made["ref_per_token_logps"][real], logps[real], atol=1e-5)
    learns = {name.split(".")[-2] for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert learns == {"navigator"}


def test_advantages_compare_strategies_of_one_point(model: Path, tmp_path: Path) -> None:
    import torch

    trainer: Any = grpo.create(load(model), model / "navigator", STAGE, tmp_path)
    rows = [{"prompt": str(row)} for row in (2, 3) for _ in range(STAGE.group)]
    trainer.model.train()
    made = trainer._generate_and_score_completions(rows)
    brought = [groups.of_search(number, load(model), STAGE, groups.Spent())[0].outcomes for number in (2, 3)]
    rewards = torch.tensor(brought)
    wanted = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    assert len(set(brought[0])) > 1
    assert torch.allclose(made["advantages"], wanted.flatten(), atol=1e-5)


def test_a_token_that_decides_the_reward_is_learnt(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy brings 1 if its first anchor has choice 1 of the first variable, else 0."""
    policy = load(model)
    found = list(rollouts.points(MADE, policy, (10,), 1))

    def toy(point: rollouts.Point, engine: Any, strategy: str, seed: int) -> float:
        return float(Strategy.parse(strategy, MADE.space).anchors[0].choices[0] == 1)

    monkeypatch.setattr(rollouts, "points", lambda *_: iter(found))
    monkeypatch.setattr(rollouts, "outcome", toy)
    stage = replace(STAGE, steps=24, searches=1, group=16, micro_batch=16, learning_rate=5e-3, warmup=0)
    said: list[str] = []
    trainer = grpo.run(policy, model / "navigator", stage, tmp_path, Watch("navigator", said.append))
    rewards = [row["reward"] for row in grpo.curve(trainer)]
    first, last = sum(rewards[:4]) / 4, sum(rewards[-4:]) / 4
    assert first < 0.7 and last > 0.9, rewards
    assert len(said) == 24 and "strategies bring" in said[0]


CONFIG = """
reinforcement: {steps: 2, searches: 1, points: 2, group: 2, longest: 20, large: 0, huge: 0, real: 0, save_every: 1,
                log_every: 1, validate_every: 2, beta: 0.05}
"""


@pytest.fixture(scope="module")
def tuned(model: Path) -> Iterator[Path]:
    (model.parent / "config.yaml").write_text(CONFIG)
    assert main(_line(model, model.parent / "tuned")) == 0
    yield model.parent / "tuned"


def _line(model: Path, out: Path, *more: str) -> list[str]:
    config = str(model.parent / "config.yaml")
    return ["finetune", "--recipe", "grpo", "--model", str(model), "--config", config, "--out", str(out), *more]


def test_the_command_leaves_a_model_that_searches(model: Path, tuned: Path, tmp_path: Path) -> None:
    for part in ("base/model.safetensors", "generator/adapter_model.safetensors", "base/tokenizer.json"):
        assert (tuned / part).read_bytes() == (model / part).read_bytes(), "as it was"
    adapter = "navigator/adapter_model.safetensors"
    assert (tuned / adapter).read_bytes() != (model / adapter).read_bytes()
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["sources"] == {"nothing": "0" * 64}, "what the model before had seen"
    assert manifest["recipe"]["reinforcement"]["group"] == 2 and adapter in manifest["weights"]
    assert manifest["reinforced"]["landscape_seeds"][0] == groups.FIRST_SEED
    rows = json.loads((tuned / "navigator" / "loss.json").read_text())
    assert [row["step"] for row in rows if "reward" in row] == [1, 2]
    assert all({"reward_std", "kl", "seconds/rollouts"} <= row.keys() for row in rows if "reward" in row)
    assert "regret" in manifest["validation"]["navigator"]
    card = (tuned / "README.md").read_text()
    assert "with --config FILE: reinforcement.steps 2, " in card and ", reinforcement.searches 1" in card
    assert main(["search", "--model", str(tuned), "--budget", "16", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["counts"]["evaluated"] == 16


def test_a_killed_run_goes_on_to_the_same_weights(model: Path, tuned: Path) -> None:
    again = tuned.parent / "again"
    shutil.copytree(tuned / "work", again / "work")
    shutil.rmtree(again / "work" / "navigator" / "checkpoint-2")
    assert main(_line(model, again)) == 0
    adapter = "navigator/adapter_model.safetensors"
    assert (again / adapter).read_bytes() == (tuned / adapter).read_bytes()


def test_a_finished_folder_is_left_alone(model: Path, tuned: Path) -> None:
    adapter = tuned / "navigator" / "adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    assert main(_line(model, tuned)) == 0
    assert adapter.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group": 1}, "must be at least 2"),
        ({"points": 9}, "has room for 3 points"),
        ({"steps": 1000000}, "other landscapes are kept for measuring"),
        ({"seed": 30}, "a seed of at most 29"),
        ({"huge": 0.9, "large": 0.9}, "together at most 1"),
        ({"learning": 1}, "`reinforcement.learning` is unknown"),
    ],
)
def test_values_that_do_not_go_together_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    known = yaml.safe_load(CONFIG)["reinforcement"]
    assert _refused(model, tmp_path, yaml.dump({"reinforcement": {**known, **changes}}), "grpo") == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_recipes_take_no_part_of_each_other(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for recipe, config, said in (
        ("grpo", "navigator: {steps: 3}", "has nothing to change but `reinforcement`"),
        ("grpo", "reinforcement: null", "must be a mapping"),
        ("tiny", "reinforcement: {steps: 3}", "belongs to another recipe"),
    ):
        assert _refused(model, tmp_path, config, recipe) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def _refused(model: Path, folder: Path, config: str, recipe: str) -> int:
    (folder / "config.yaml").write_text(config)
    line = ["finetune", "--recipe", recipe, "--model", str(model), "--config", str(folder / "config.yaml")]
    status = main([*line, "--out", str(folder / "none")])
    assert not (folder / "none").exists()
    return status


def test_options_that_do_not_go_together_are_refused(
    model: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "none")]
    grpo_line = ["finetune", "--recipe", "grpo", *out]
    for line, said in (
        (grpo_line, "say which: --model DIR"),
        ([*grpo_line, "--model", str(model), "--dataset", str(tmp_path)], "takes no --dataset"),
        ([*grpo_line, "--model", str(model), "--merge"], "takes no --merge"),
        ([*grpo_line, "--model", str(model / "base")], "there is no navigator adapter"),
        (["finetune", "--model", str(model), *out], "learns from a dataset; say which: --dataset DIR"),
        ([*_line(model, tuned), "--recipe", "grpo", "--model", str(tuned)], "begun with another --model"),
    ):
        assert main(line) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()
