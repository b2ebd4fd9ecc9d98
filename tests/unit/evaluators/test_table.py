"""Tables: what is read, what covers what, and one sentence for whatever is wrong."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from collm_nas import spaces
from collm_nas.api import UserError, Variable
from collm_nas.evaluators import table, table_file
from collm_nas.spaces.base import CategoricalSpace

DIGITS = CategoricalSpace("digits", [Variable("a", tuple("01")), Variable("b", tuple("01"))], template="{a}{b}")
DEPTH = CategoricalSpace(
    "depth", [Variable("d", ("1", "2")), Variable("op", ("none", "NA", "1.0"), ((0, frozenset({1})),))]
)


@pytest.fixture
def write(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def by_text(evaluator):
    return {
        evaluator.space.format(a): e.fitness
        for a, e in zip(evaluator.rows, evaluator.evaluate(list(evaluator.rows)), strict=True)
    }


def test_leading_zeros_and_one_metric(write):
    path = write("arch,accuracy\n00,1\n01,2.5\n10,-3e-1\n11,4\n")
    evaluator = table.load(DIGITS, path)
    assert by_text(evaluator) == {"00": 1.0, "01": 2.5, "10": -0.3, "11": 4.0}
    assert evaluator.space is DIGITS
    assert evaluator.best() == 4.0
    protocol = json.loads(json.dumps(evaluator.protocol()))
    assert protocol["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (protocol["fitness"], protocol["rows"], protocol["size"], protocol["covers"]) == ("accuracy", 4, 4, 1.0)


def test_costs_and_report_stay_apart(write):
    evaluator = table.load(
        DIGITS, write("flops,arch,valid,test,params\n5,00,1,9,7\n6,01,2,8,1.5\n"), "valid", ["test", "test"]
    )
    first = DIGITS.parse("00")
    (evaluation,) = evaluator.evaluate([first])
    assert (evaluation.fitness, evaluation.costs) == (1.0, {"flops": 5, "params": 7})
    assert type(evaluation.costs["flops"]) is int
    assert evaluator.costs(first) == {"flops": 5, "params": 7}
    assert evaluator.report(first) == {"test": 9}
    assert evaluator.protocol()["report"] == ["test"]


def test_partial_cover_restricts_the_space(write):
    evaluator = table.load(DIGITS, write("arch,acc\n11,1\n00,2\n"))
    assert [DIGITS.format(a) for a in evaluator.space.all()] == ["11", "00"]
    assert evaluator.protocol()["covers"] == 0.5
    with pytest.raises(UserError, match="no row for '01'"):
        evaluator.evaluate([DIGITS.parse("01")])


def test_variable_columns(write):
    evaluator = table.load(DEPTH, write("op,d,acc\n,1,1\nnone,2,2\nNA,2,3\n1.0,2,4\n"))
    assert by_text(evaluator) == {"1 none": 1, "2 none": 2, "2 NA": 3, "2 1.0": 4}


def test_variable_columns_beside_arch_must_agree_and_are_no_metrics(write):
    assert table.load(DIGITS, write("arch,a,acc\n01,0,5\n10,1,6\n")).best() == 6
    assert table.load(DEPTH, write("arch,d,op,acc\n1 none,1,,5\n2 NA,2,NA,6\n")).best() == 6
    with pytest.raises(UserError, match=r"t\.csv, line 3: column 'a' says '0', but 'arch' says '1'"):
        table.load(DIGITS, write("arch,a,acc\n01,0,5\n10,0,6\n"))


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
def test_other_containers_say_the_same(write, tmp_path, suffix):
    text = "arch,valid,test\n00,1,2\n01,3,4.5\n"
    if suffix == "csv.gz":
        path = write(gzip.compress(text.encode()), "t.csv.gz")
    else:
        path = tmp_path / "t.parquet"
        columns = {"arch": ["00", "01"], "valid": [1, 3], "test": [2.0, 4.5]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    evaluator = table.load(DIGITS, path, "valid", ["test"])
    assert by_text(evaluator) == {"00": 1, "01": 3}
    assert evaluator.report(DIGITS.parse("01")) == {"test": 4.5}


def test_parquet_with_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [0, 1], "b": [1, 1], "acc": [0.5, 0.25]}), path)
    assert by_text(table.load(DIGITS, path)) == {"01": 0.5, "11": 0.25}
    pyarrow.parquet.write_table(pyarrow.table({"arch": [0, 1], "acc": [0.5, 0.25]}), path)
    with pytest.raises(UserError, match=r"row 1: column 'arch' must hold text"):
        table.load(DIGITS, path)
    pyarrow.parquet.write_table(pyarrow.table({"arch": ["00", "01"], "acc": [0.5, None]}), path)
    with pytest.raises(UserError, match=r"row 2: column 'acc' holds 'None'"):
        table.load(DIGITS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not readable as Parquet"):
        table.load(DIGITS, path)


@pytest.mark.parametrize(
    ("text", "options", "culprit"),
    [
        ("", {}, "the table is empty"),
        ("\n\n", {}, "the table is empty"),
        ("arch,acc\n", {}, "has no rows"),
        ("arch,acc,acc\n00,1,2\n", {}, "column 'acc' appears twice"),
        ("name,acc\n00,1\n", {}, r"needs a column 'arch' or one column a variable \(a, b\); it has name, acc"),
        ("a,acc\n0,1\n", {}, r"needs a column 'arch' or one column a variable"),
        ("arch,acc\n00,1\n\n01,2\n00,3\n", {}, "line 5: '00' is the architecture of line 2 again"),
        ("arch,acc\n00,1\n02,2\n", {}, "line 3: digits: variable 'b' cannot be read at '2'; legal: 0, 1"),
        ("arch,acc\n00,1\n,2\n", {}, "line 3: digits: variable 'a'"),
        ("a,b,acc\n0,1,1\n0,,1\n", {}, "line 3: digits: variable 'b' is missing; legal: 0, 1"),
        ("a,b,acc\n0,x,1\n", {}, "line 2: digits: variable 'b': 'x' is not legal; legal: 0, 1"),
        ("arch,acc\n00,1\n01\n", {}, "line 3: 1 cells, but the header has 2"),
        ("arch,acc\n00,1\n01,2,3\n", {}, "line 3: 3 cells, but the header has 2"),
        ("arch,acc\n00,1\n01,\n", {}, "line 3: column 'acc' holds ''"),
        ("arch,acc\n00,1\n01,nan\n", {}, "line 3: column 'acc' holds 'nan'"),
        ("arch,acc\n00,1\n01,-inf\n", {}, "line 3: column 'acc' holds '-inf'"),
        ("arch,acc\n00,1\n01,1e999\n", {}, "line 3: column 'acc' holds '1e999'"),
        ("arch,acc\n00,1\n01,abc\n", {"fitness": "acc"}, "line 3: column 'acc' holds 'abc'"),
        ("arch,acc,flops\n00,1,2\n01,1,NaN\n", {}, "line 3: column 'flops' holds 'NaN'"),
        ("arch,acc,params\n00,1,2\n01,1,-4\n", {}, "line 3: column 'params' holds -4; a cost must be zero or more"),
        ("arch,acc,test\n00,1,2\n01,1,\n", {"fitness": "acc", "report": ["test"]}, "line 3: column 'test' holds ''"),
        ("arch,valid,test\n00,1,2\n", {}, r"name the fitness column .*2 numeric columns besides costs \(valid, test\)"),
        ("index,arch,acc\n0,00,1\n", {}, r"2 numeric columns besides costs \(index, acc\)"),
        ("arch,flops\n00,1\n", {}, "name the fitness column.*it has none"),
        ("arch,note\n00,good\n", {}, "name the fitness column.*it has none"),
        (
            "arch,valid,test\n00,1,2\n",
            {"fitness": "vaild"},
            "no metric column 'vaild'; it has valid, test; did you mean 'valid'",
        ),
        ("arch,valid,test\n00,1,2\n", {"fitness": "valid", "report": ["tset"]}, "no metric column 'tset'.*'test'"),
        ("arch,a,acc\n00,0,2\n", {"fitness": "a"}, "no metric column 'a'; it has acc"),
        ('arch,acc\n"00,1\n', {}, "not readable as CSV"),
        (b"arch,acc\n00,\xff\n", {}, "not UTF-8"),
        (gzip.compress(b"arch,acc\n00,1\n" * 50, mtime=0)[:-12], {}, "damaged or cut"),
    ],
)
def test_one_sentence_names_the_place(write, text, options, culprit):
    with pytest.raises(UserError, match=culprit) as error:
        table.load(DIGITS, write(text), **options)
    assert "t.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_two_spellings_of_one_architecture_are_a_repeat(write):
    with pytest.raises(UserError, match="line 3: '1 none' is the architecture of line 2 again"):
        table.load(DEPTH, write("arch,acc\n1 none,1\n1 NA,2\n"))


def test_text_columns_are_no_metrics(write):
    assert table.load(DIGITS, write("arch,note,acc\n00,good,1\n01,1_0,2\n")).protocol()["fitness"] == "acc"


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"'.*missing\.csv': no such file.*built-in table"):
        table.load(DIGITS, tmp_path / "missing.csv")
    with pytest.raises(UserError, match="cannot be read"):
        table.load(DIGITS, tmp_path)


@pytest.fixture(scope="module")
def synthetic_nasbench(tmp_path_factory):
    """15,625 rows with made-up numbers, in an order that is not the official one."""
    nb = spaces.load("nasbench201")
    path = tmp_path_factory.mktemp("nb") / "nb.csv.gz"
    lines = [
        f"{i},{nb.format(a)},{i % 977 / 10},{i % 31}" for i, a in enumerate(sorted(nb.all(), key=lambda a: a.choices))
    ]
    path.write_bytes(gzip.compress("\n".join(["index,arch,valid,test", *lines]).encode()))
    return path


def test_fifteen_thousand_rows_load_quickly_without_torch(synthetic_nasbench):
    code = (
        "import sys, time; from collm_nas import spaces; from collm_nas.evaluators import table;"
        "nb = spaces.load('nasbench201'); start = time.process_time();"
        f"e = table.load(nb, {str(synthetic_nasbench)!r}, 'valid', ['test']); took = time.process_time() - start;"
        "heavy = [m for m in ('torch', 'pandas', 'numpy') if m in sys.modules]; print(len(e.rows), heavy, took)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, heavy, took = done.stdout.split()
    assert (rows, heavy) == ("15625", "[]")
    assert float(took) < 1.5


def test_the_space_keeps_its_own_order(synthetic_nasbench):
    nb = spaces.load("nasbench201")
    evaluator = table.load(nb, synthetic_nasbench, "valid")
    assert evaluator.space is nb
    first = list(itertools.islice(nb.all(), 3))
    by_choices = sorted(nb.all(), key=lambda a: a.choices)
    assert [e.fitness for e in evaluator.evaluate(first)] == [by_choices.index(a) % 977 / 10 for a in first]


@pytest.mark.parametrize("name", table_file.built_in())
def test_built_in_tables_fit_the_space_of_their_name(name):
    space = spaces.load(name)
    evaluator = table.load(space, name, "valid", ["test"])
    assert evaluator.space is space
    assert evaluator.protocol()["table"] == name
    for arch in list(evaluator.rows)[::501]:
        known = space.cost(arch)
        assert evaluator.costs(arch) == {cost: known[cost] for cost in evaluator.costs(arch)}


def test_the_real_benchmark(shared):
    path = shared / "data" / "nasbench201.csv.gz"
    nb = spaces.load("nasbench201")
    evaluator = table.load(nb, path, "isomorph")
    assert [nb.index(arch) for arch in evaluator.rows] == list(range(15_625))
    assert len(set(evaluator.fitness)) == len({nb.isomorph(a) for a in nb.all()})
    with pytest.raises(UserError, match="index, isomorph, cifar10/valid@12"):
        table.load(nb, path)
