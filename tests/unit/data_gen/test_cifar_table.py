"""The script that tabulates the cifar-mbconv supernet: resumable, and its table reads back."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from collm_nas import spaces
from collm_nas.evaluators import table
from data_gen import cifar_table

SPACE = spaces.load("cifar-mbconv")


def test_the_same_distinct_architectures_every_time():
    archs = cifar_table.sampled(SPACE, 60)
    assert len(set(archs)) == 60
    assert archs[:20] == cifar_table.sampled(SPACE, 20)
    depths = [arch.choices[0] for arch in archs]
    assert min(depths.count(d) for d in range(3)) > 8, "shallow stages are as common as deep ones"


def test_a_killed_script_goes_on(tmp_path):
    evaluator, partial, seen = SimpleNamespace(space=SPACE), tmp_path / "scored.jsonl", []

    def measure(_, arch):
        seen.append(arch)
        return {"valid": 50.0 + len(seen), "test": 40.0}

    archs = cifar_table.sampled(SPACE, 6)
    cifar_table.fill(evaluator, archs[:4], measure, partial, (0, 1))
    with partial.open("a") as file:
        file.write('{"arch": "cut')
    cifar_table.fill(evaluator, archs, measure, partial, (0, 1))
    assert seen == archs, "nothing is measured twice"
    assert [line["valid"] for line in cifar_table.lines(partial)] == [51, 52, 53, 54, 55, 56]
    both = [tmp_path / "even.jsonl", tmp_path / "odd.jsonl"]
    for k, path in enumerate(both):
        cifar_table.fill(evaluator, archs, measure, path, (k, 2))
    assert [len(list(cifar_table.lines(path))) for path in both] == [3, 3]


def test_the_table_reads_back(tmp_path):
    archs = [SPACE.format(arch) for arch in cifar_table.sampled(SPACE, 8)]
    scored = [{"arch": arch, "valid": 50 + i / 3, "test": 49.5} for i, arch in enumerate(archs)]
    alone = [{"arch": arch, "alone_valid": 55.0 + i, "alone_test": 50.0 - i} for i, arch in enumerate(archs[:5])]
    out = tmp_path / "t.csv.gz"
    cifar_table.pack(SPACE, scored, alone, out)
    first = out.read_bytes()
    cifar_table.pack(SPACE, scored, alone, out)
    assert out.read_bytes() == first, "no clock in it"
    read = table.load(SPACE, out, "valid", ["test"])
    assert read.space.size == 8
    arch = SPACE.parse(archs[4])
    assert read.evaluate([arch])[0].fitness == pytest.approx(51.33)
    assert read.costs(arch) == SPACE.cost(arch)
    assert "tau 1.000 [1.000, 1.000] on 5 networks" in cifar_table.agreement(scored, alone, "valid")
    assert json.loads(archs[0])
