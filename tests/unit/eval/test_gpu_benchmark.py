"""The GPU script itself, run small on the CPU: its JSON is whole, and what fails in it hurts nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks import gpu


@pytest.fixture(autouse=True)
def kept_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script hides GPUs from its process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


def broken(device: str, work: Path, **how: Any) -> dict[str, Any]:
    raise RuntimeError("CUDA error:\n  out of memory")


@pytest.mark.slow
def test_all_sections_run_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert list(found) == ["card", "torch", "cuda", "python", *gpu.SECTIONS, "seconds"]
    assert set(found["logits"]["greatest_difference_in_std"]) == {"ofa-mbv3", "spos-shufflenet", "autoformer-tiny"}
    assert max(found["logits"]["greatest_difference_in_std"].values()) < 1e-4
    assert found["scoring"]["space"] == "digits-mbconv" and found["scoring"]["accuracies_apart_at_most"] < 5
    assert found["scoring"]["share_of_peak"] > 0 and found["scoring"]["subnets_per_second"]["ours"] > 0
    assert found["scoring_data"] == "no --data"
    assert found["language"]["equal"] == found["language"]["answers"] == 2
    assert all(found["tuning"][kind]["tokens_per_second"] > 0 for kind in ("base", "lora"))
    assert found["vllm"] == "not installed" or "seconds" in found["vllm"]
    assert all(found[name]["seconds"] >= 0 for name in ("logits", "scoring", "language", "tuning"))


def test_a_section_that_fails_says_so_in_one_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "import_module", lambda _: type("sections", (), {"logits": broken, "language": like_it}))
    monkeypatch.setattr(gpu, "SECTIONS", {name: gpu.SECTIONS[name] for name in ("logits", "language")})
    found = gpu.run("cpu", None)
    assert found["logits"]["error"] == "RuntimeError: CUDA error: out of memory" and "seconds" in found["logits"]
    assert found["language"]["given"] == gpu.SIZES["cpu"]["language"]
    assert capsys.readouterr().out == ""


def like_it(device: str, work: Path, **how: Any) -> dict[str, Any]:
    assert work.is_dir()
    return {"given": how}


def test_no_section_begins_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LAST_START", -1.0)
    found = gpu.run("cpu", None)
    assert all(found[name]["error"].startswith("not begun") for name in gpu.SECTIONS)


def test_both_sizes_have_arguments_for_every_section() -> None:
    for sizes in gpu.SIZES.values():
        assert set(sizes) == set(gpu.SECTIONS)
    for name, how in gpu.SIZES["cuda"].items():
        assert set(how) == set(gpu.SIZES["cpu"][name])


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "no CUDA device" in said.err and "--device cpu" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--out", "--data"])
def test_what_cannot_be_used_is_refused_before_anything_runs(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--device", "cpu", option, str(tmp_path / "none" / "x")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and option in said.err


def test_only_the_first_visible_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    gpu.one_device("cuda")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_card_names_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "card", lambda device: "NVIDIA A100-SXM4 (80GB)")
    assert str(gpu.target(None, "cuda")) == "gpu-NVIDIA-A100-SXM4-80GB.json"
    assert str(gpu.target(None, "cpu")) == "gpu-cpu.json"
