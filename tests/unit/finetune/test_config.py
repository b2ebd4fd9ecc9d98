"""A YAML file that changes a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm_nas.api import UserError
from collm_nas.cli import main
from finetune import config
from finetune.recipes import EMBEDDED, RECIPES, SMOLLM2, TINY, Recipe


def read(tmp_path: Path, text: str, recipe: Recipe = TINY) -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return config.read(path, recipe)


def test_it_changes_what_it_names_alone(tmp_path: Path) -> None:
    changed = read(tmp_path, "navigator: {steps: 50, betas: [0.9, 0.95]}\nlora: {rank: 8}\nlongest: 200\n", EMBEDDED)
    assert (changed.navigator.steps, changed.navigator.betas) == (50, (0.9, 0.95))
    assert (changed.lora.rank, changed.lora.alpha) == (8, EMBEDDED.lora.alpha)
    assert (changed.longest, changed.name) == (200, "embedded")
    assert (changed.base, changed.generator) == (EMBEDDED.base, EMBEDDED.generator)


def test_phases_of_the_base_keep_what_is_not_said(tmp_path: Path) -> None:
    changed = read(tmp_path, "base: [{steps: 10}, {}, {steps: 3, seed: 2}]")
    assert [t.steps for t in changed.base] == [10, TINY.base[1].steps, 3]
    assert changed.base[0].muon_rate == TINY.base[0].muon_rate
    assert changed.base[1] == TINY.base[1]


def test_rates_may_be_written_without_a_point_and_null_takes_back(tmp_path: Path) -> None:
    """YAML takes `1e-3` for text, and `2` for a whole number."""
    changed = read(tmp_path, "navigator: {learning_rate: 1e-3, clip: 2}\nlongest: null", SMOLLM2)
    assert (changed.navigator.learning_rate, changed.navigator.clip) == (0.001, 2.0)
    assert changed.longest is None


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_an_empty_file_changes_nothing(tmp_path: Path, recipe: Recipe) -> None:
    assert read(tmp_path, "# nothing\n", recipe) == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step: 5", "`step` is unknown; legal: base, navigator"),
        ("name: other", "`name` is unknown"),
        ("navigator: {step: 5}", "`navigator.step` is unknown; legal: steps, stop"),
        ("navigator: 5", "`navigator` must be a mapping with keys of steps"),
        ("[1]", "it must be a mapping"),
        ("navigator: {steps: many}", "`navigator.steps` must be a whole number, got 'many'"),
        ("navigator: {steps: 5.5}", "`navigator.steps` must be a whole number, got 5.5"),
        ("navigator: {steps: true}", "`navigator.steps` must be a whole number, got True"),
        ("navigator: {optimum_only: 1}", "`navigator.optimum_only` must be true or false"),
        ("navigator: {steps: -5}", "`navigator.steps` must be at least 1, got -5"),
        ("navigator: {steps: 0}", "`navigator.steps` must be at least 1"),
        ("navigator: {first_anchor: 0}", "`navigator.first_anchor` must be at least 1, got 0"),
        ("navigator: {steps: null}", "`navigator.steps` must be a whole number, got None"),
        ("navigator: {learning_rate: -1e-3}", "`navigator.learning_rate` must be at least 0, got -0.001"),
        ("navigator: {learning_rate: .nan}", "`navigator.learning_rate` must be at least 0"),
        ("navigator: {betas: [0.9]}", "`navigator.betas` must be a list of two numbers"),
        ("navigator: {betas: [0.9, 2]}", "at most 1, got 2.0"),
        ("navigator: {stop: 50}", "`navigator.stop` must be at most `steps` (4), got 50"),
        ("navigator: {batch: 20}", "`navigator.batch` must be a multiple of `micro_batch` (16), got 20"),
        ("base: [{steps: 5}]", "`base` must be a list of at least 2 mappings"),
        ("base: [{}, {}, {seed: 1}]", "`base[2]` is a new phase, which must say its `steps`"),
        ("base: [{steps: -1}, {}]", "`base[0].steps` must be at least 1"),
        ("shape: {width: 0}", "`shape.width` must be at least 1"),
        ("shape: {head_size: 31}", "`shape.head_size` must be even"),
        ("quantize: int2", "`quantize` must be one of nf4"),
        ("lora: {rank: 4}\nlora: {rank: 8}", "the key `lora` appears twice (line 2)"),
        ("lora: {rank: 4", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_the_command_ends_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["finetune", "--recipe", "tiny", "--dataset", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*given, "--config", str(tmp_path / "none.yaml")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("lora: {rank: -1}")
    assert main([*given, "--config", str(tmp_path / "bad.yaml")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "`lora.rank` must be at least 1, got -1" in shown
    assert not (tmp_path / "out").exists()
