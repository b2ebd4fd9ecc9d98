"""The script that tabulates the cifar-mbconv supernet: resumable, and its table reads back."""

from __future__ import annotations

from functools import partial

import pytest

from collm_nas import spaces
from collm_nas.evaluators import table
from data_gen import cifar_table

WHOLE, REGULAR = spaces.load("cifar-mbconv"), spaces.load("cifar-stages")


def test_the_same_distinct_architectures_every_time():
    archs = cifar_table.sampled(WHOLE, 60)
    assert len(set(archs)) == 60
    assert archs[:20] == cifar_table.sampled(WHOLE, 20)
    depths = [arch.choices[0] for arch in archs]
    assert min(depths.count(d) for d in range(3)) > 8, "shallow stages are as common as deep ones"


def test_a_killed_script_goes_on(tmp_path):
    path, seen = tmp_path / "scored.jsonl", []

    def measure(text):
        seen.append(text)
        return {"valid": 50.0 + len(seen), "test": 40.0}

    todo = {text: partial(measure, text) for text in "abcdef"}
    cifar_table.fill({text: todo[text] for text in "abcd"}, path, (0, 1))
    with path.open("a") as file:
        file.write('{"arch": "cut')
    cifar_table.fill(todo, path, (0, 1))
    assert seen == list(todo), "nothing is measured twice"
    assert [line["valid"] for line in cifar_table.lines(path)] == [51, 52, 53, 54, 55, 56]
    both = [tmp_path / "even.jsonl", tmp_path / "odd.jsonl"]
    for k, one in enumerate(both):
        cifar_table.fill(todo, one, (k, 2))
    assert ["".join(line["arch"] for line in cifar_table.lines(one)) for one in both] == ["ace", "bdf"]


def test_the_table_reads_back(tmp_path):
    scored = [
        {"arch": REGULAR.format(arch), "valid": 50 + i / 3000, "test": 49.5} for i, arch in enumerate(REGULAR.all())
    ]
    out = tmp_path / "t.csv.gz"
    cifar_table.pack(scored, out)
    first = out.read_bytes()
    cifar_table.pack(scored[::-1], out)
    assert out.read_bytes() == first, "no clock in it, and one order"
    read = table.load(REGULAR, out, "valid", ["test"])
    arch = REGULAR.parse(scored[1000]["arch"])
    assert read.evaluate([arch])[0].fitness == pytest.approx(50.33)
    assert read.costs(arch) == REGULAR.cost(arch)


def test_agreement_of_inherited_with_stand_alone_accuracy():
    lines = [
        {
            "arch": WHOLE.format(arch),
            "valid": 70.0 + i,
            "test": 69.0 - i,
            "alone_valid": 60.0 + i,
            "alone_test": 60.0 - i % 2,
        }
        for i, arch in enumerate(cifar_table.sampled(WHOLE, 6))
    ]
    said = list(cifar_table.agreement(lines))
    assert "alone_valid with valid: tau 1.000 [1.000, 1.000]" in said
    assert "valid with test: tau -1.000 [-1.000, -1.000]" in said
    assert "alone_valid: 60.0 to 65.0, median 62.5, deviation 1.87, 6 networks" in said
