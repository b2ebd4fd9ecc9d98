from __future__ import annotations

import csv
import gzip
import io
import json
import random
from importlib import resources
from pathlib import Path

import pytest

from collm_nas.spaces import digits_cells

SPACE = digits_cells.create()
SAMPLE = [SPACE.sample(random.Random(seed)) for seed in range(40)]


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    packed = resources.files("collm_nas").joinpath("data", "digits_cells.csv.gz").read_bytes()
    return list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))


def counted(choices: tuple[int, ...]) -> tuple[int, int]:
    """Multiply-adds and trainable parameters, counted while the module runs on one image."""
    import torch
    from torch import nn

    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += module.weight[0].numel() * output.numel()

    network = digits_cells.build(choices).eval()
    for module in network.modules():
        module.register_forward_hook(count)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    return total, sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("arch", SAMPLE, ids=SPACE.format)
def test_costs_equal_a_count_over_the_built_network(arch):
    assert SPACE.cost(arch) == dict(zip(("flops", "params"), counted(arch.choices), strict=True))


def test_every_choice_changes_the_network():
    """No variable is idle: from one architecture, each other choice changes the output for equal weights' seeds."""
    import torch

    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    arch = SPACE.parse("k3 conv3 | max | conv3 | plain relu rows")
    outputs = [digits_cells.build(a.choices)(x) for a in (arch, *SPACE.neighbors(arch))]
    assert len(outputs) == 1 + 3 + 3 + 2 + 3 + 2 + 2 + 2
    assert all(not torch.allclose(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_build_is_seeded_and_leaves_the_global_generator_alone():
    import torch

    before = torch.random.get_rng_state()
    one, same, other = (digits_cells.build(SAMPLE[0].choices, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.linear.weight, same.linear.weight)
    assert not torch.equal(one.linear.weight, other.linear.weight)


def test_the_table_covers_the_space_in_its_order(table):
    assert list(table[0]) == ["arch", "valid", "test", "params", "flops", "seconds"]
    assert [row["arch"] for row in table] == [SPACE.format(arch) for arch in SPACE.all()]
    assert len({row["arch"] for row in table}) == SPACE.size == 5184


def test_the_tables_costs_are_the_spaces(table):
    for row in table:
        assert SPACE.cost(SPACE.parse(row["arch"])) == {"flops": int(row["flops"]), "params": int(row["params"])}


def test_the_landscape_is_worth_a_search(table):
    """Best and median differ; the best is not the largest, nor one operation repeated; test agrees with valid."""
    valid = sorted(float(row["valid"]) for row in table)
    best = max(table, key=lambda row: float(row["valid"]))
    assert all(0 < float(row[c]) < 100 for row in table for c in ("valid", "test"))
    assert all(float(row["seconds"]) > 0 for row in table)
    assert valid[-1] - valid[len(valid) // 2] >= 3
    for cost in ("params", "flops"):
        assert int(best[cost]) < max(int(row[cost]) for row in table)
    choices = digits_cells.names(SPACE.parse(best["arch"]).choices)
    assert choices[1] != choices[3]
    assert abs(float(best["valid"]) - float(best["test"])) < 3


@pytest.mark.parametrize("number", [5, 2600])
def test_retraining_gives_the_tables_values(table, number):
    """Equal to the last digit on one machine; another CPU or torch rounds otherwise, hence the tolerance."""
    from data_gen import digits_table

    row = table[number]
    result = digits_table.measure(SPACE.parse(row["arch"]).choices)
    for column in ("valid", "test"):
        assert sum(result[column]) / 2 == pytest.approx(float(row[column]), abs=2.5)


def test_an_interrupted_run_goes_on_without_retraining(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a kill leaves (whole lines, then a torn one) is kept, and the torn result trained anew."""
    from data_gen import digits_table

    partial = tmp_path / "partial.jsonl"
    command = ["--out", str(tmp_path / "table.csv.gz"), "--partial", str(partial), "--limit"]
    digits_table.main([*command, "2"])
    whole = partial.read_text().splitlines()
    partial.write_text("\n".join(whole)[:-20])  # the second result lost its end
    digits_table.main([*command, "2"])
    after = partial.read_text().splitlines()
    assert after[:2] == whole[:2]
    results = [json.loads(line) for line in after[1:]]
    assert len({tuple(r["choices"]) for r in results}) == len(results) == 3
    assert results[1]["valid"] == json.loads(whole[2])["valid"]
    assert "3 of 5184" in capsys.readouterr().out
    assert not (tmp_path / "table.csv.gz").exists()


def test_results_of_another_recipe_are_refused(tmp_path: Path):
    from data_gen import digits_table

    partial = tmp_path / "partial.jsonl"
    partial.write_text('{"recipe": {"version": 0}}\n')
    with pytest.raises(SystemExit, match="another recipe"):
        digits_table.recover(partial)


def test_equal_results_give_equal_bytes(tmp_path: Path):
    from data_gen import digits_table

    results = {a.choices: {"valid": [50.0, 51.0], "test": [52.0, 52.5], "seconds": 0.25} for a in SPACE.all()}
    one, other = tmp_path / "one.csv.gz", tmp_path / "other.csv.gz"
    digits_table.write_table(one, results)
    digits_table.write_table(other, dict(reversed(results.items())))
    assert one.read_bytes() == other.read_bytes()
    assert gzip.decompress(one.read_bytes()).decode().splitlines()[1].split(",")[1:3] == ["50.5000", "52.2500"]
