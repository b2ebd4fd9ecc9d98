"""Mine, train, search: the whole path with a recipe of seconds, as the commands run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from collm_nas.api import UserError
from collm_nas.cli import main

SMALL = ["--large", "0", "--huge", "0", "--real", "0"]  # landscapes of few variables

SPACE = """
name: toy
variables:
  - {name: depth, choices: [1, 2]}
  - {name: a, choices: [x, y, z]}
  - {name: b, choices: [x, y, z], active_if: {depth: [2]}}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["mine", "--landscapes", "20", *SMALL, "--out", str(folder / "data")]) == 0
    train = ["finetune", "--recipe", "tiny", "--dataset", str(folder / "data"), "--out", str(folder / "model")]
    assert main(train) == 0
    (folder / "toy.yaml").write_text(SPACE)
    rows = [f"1 {a} x,{i}" for i, a in enumerate("xyz")]
    rows += [f"2 {a} {b},{10 + 3 * i + j}" for i, a in enumerate("xyz") for j, b in enumerate("xyz")]
    (folder / "toy.csv").write_text("arch,score\n" + "\n".join(rows) + "\n")
    yield folder


def _search(work: Path, out: str, *more: str) -> dict[str, object]:
    line = ["search", "--space", str(work / "toy.yaml"), "--table", str(work / "toy.csv"), "--out", str(work / out)]
    assert main([*line, "--model", str(work / "model"), *more]) == 0
    result: dict[str, object] = json.loads((work / out / "result.json").read_text())
    return result


def test_a_fresh_model_searches_a_conditional_space_to_its_end(work: Path) -> None:
    result = _search(work, "run", "--budget", "50", "--init", "3")
    assert result["counts"] == {"attempted": 12, "valid": 12, "unique": 12, "evaluated": 12}
    assert result["best"]["arch"] == "2 z z"  # type: ignore[index]
    assert (work / "run" / "report.html").stat().st_size > 1000


def test_adapters_carry_their_provenance(work: Path) -> None:
    manifest = json.loads((work / "model" / "manifest.json").read_text())
    assert manifest["sources"] == {}
    assert manifest["datasets"][0]["settings"]["landscapes"] == 20
    assert set(manifest["weights"]) == {
        "base/model.safetensors",
        "navigator/adapter_model.safetensors",
        "generator/adapter_model.safetensors",
    }


def test_training_resumes_to_the_same_weights(work: Path) -> None:
    """The checkpoint at step 3 of 6 must lead to the weights of the unbroken run."""
    from finetune.model_folder import build
    from finetune.recipes import TINY

    again = work / "again"
    shutil.copytree(work / "model" / "work", again / "work")
    shutil.rmtree(again / "work" / "base-0" / "final")
    shutil.rmtree(again / "work" / "base-1")
    shutil.rmtree(again / "work" / "base-0" / "checkpoint-6")
    build(TINY, [work / "data"], again, lambda text: None)
    for name, value in json.loads((work / "model" / "manifest.json").read_text())["weights"].items():
        assert json.loads((again / "manifest.json").read_text())["weights"][name] == value, name


def test_merged_models_are_plain_folders(work: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = ["--dataset", str(work / "data"), "--out", str(work / "model")]
    assert main(["finetune", "--recipe", "tiny", *given, "--merge"]) == 0
    model, merged = work / "model", work / "model" / "merged"
    ids = torch.tensor([AutoTokenizer.from_pretrained(merged / "generator")("<a>a0b1<dir>a0a1<s2><gen>")["input_ids"]])
    found = []
    for role in ("navigator", "generator"):
        base = AutoModelForCausalLM.from_pretrained(model / "base", local_files_only=True)
        with torch.no_grad():
            theirs = PeftModel.from_pretrained(base, model / role).eval()(input_ids=ids).logits
            ours = AutoModelForCausalLM.from_pretrained(merged / role, local_files_only=True)(input_ids=ids).logits
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
        found.append(ours)
    assert not torch.allclose(*found, atol=1e-4), "each role has its own"


def test_an_adapter_of_another_digest_version_is_refused(work: Path) -> None:
    other = work / "other"
    shutil.copytree(work / "model", other, ignore=shutil.ignore_patterns("work"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "digest_version": 99}))
    line = ["search", "--space", str(work / "toy.yaml"), "--table", str(work / "toy.csv"), "--out", str(work / "none")]
    assert main([*line, "--model", str(other)]) == 2
    assert not (work / "none").exists()


def test_an_unfinished_dataset_is_refused(work: Path, tmp_path: Path) -> None:
    from finetune import data

    shutil.copytree(work / "data", tmp_path / "data")
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    del manifest["shards"]
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="not finished"):
        data.read_manifest(tmp_path / "data")


def test_three_commands_tune_a_model_on_a_table_of_one_s_own(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--space", str(work / "toy.yaml"), "--table", str(work / "toy.csv")]
    mine = ["mine", "--source", "table", *table, "--searches", "6", "--processes", "1", "--out", str(work / "own-data")]
    assert main(mine) == 0
    assert "a model trained on them has seen toy.csv" in " ".join(capsys.readouterr().out.split())
    data = ["--dataset", str(work / "own-data")]
    tune = ["finetune", "--model", str(work / "model"), "--recipe", "tiny", *data, "--out", str(work / "own")]
    assert main(tune) == 0
    assert main(["search", *table, "--model", str(work / "own"), "--budget", "12", "--out", str(work / "own-run")]) == 0
    assert json.loads((work / "own-run" / "result.json").read_text())["seen"] == "seen"
    base = "base/model.safetensors"
    assert (work / "own" / base).read_bytes() == (work / "model" / base).read_bytes(), "the base is as it was"
    assert "toy.csv" in (work / "own" / "README.md").read_text()


def test_a_base_that_reads_other_digests_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = [
        "mine",
        "--landscapes",
        "2",
        "--large",
        "0",
        "--huge",
        "0",
        "--real",
        "0",
        "--processes",
        "1",
        "--digest-version",
        "1",
    ]
    assert main([*mine, "--out", str(work / "old")]) == 0
    tune = ["finetune", "--model", str(work / "model"), "--dataset", str(work / "old"), "--out", str(work / "none")]
    assert main(tune) == 2
    assert "mine it again with --digest-version 3" in " ".join(capsys.readouterr().err.split())
    assert not (work / "none").exists()


def test_a_recipe_of_adapters_needs_a_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["finetune", "--recipe", "adapters", "--dataset", str(work / "data"), "--out", str(work / "none")]
    assert main(tune) == 2
    assert "say of which model: --model DIR" in capsys.readouterr().err
    assert not (work / "none").exists()
