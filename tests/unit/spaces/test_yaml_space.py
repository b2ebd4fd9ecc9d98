"""YAML spaces: what is read, and the one sentence for whatever cannot be."""

from __future__ import annotations

import pytest

from collm_nas import spaces
from collm_nas.api import UserError

GOOD = """
name: my-space
description: eight layers,
  three blocks each
variables:
  - {name: depth, choices: [1, 2, 2.50]}
  - {name: l1, choices: [identity, mb3_k3, "yes", 007]}
  - {name: l2, choices: [a, b], active_if: {depth: [2, 2.50], l1: ["yes"]}}
encoding: "{depth}:{l1}/{l2}"
costs: {flops: {base: 1000, l1: [0, 20, 40, 1.5], l2: [1, 2]}}
"""
ONE = "name: x\nvariables: [{name: a, choices: [p, q]}, {name: b, choices: [1, 2]}]\n"


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "space.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_whole_space(write):
    space = spaces.load(write(GOOD))
    assert (space.name, space.description) == ("my-space", "eight layers, three blocks each")
    assert [v.choices for v in space.variables] == [
        ("1", "2", "2.50"),
        ("identity", "mb3_k3", "yes", "007"),
        ("a", "b"),
    ]
    assert space.size == 1 * 4 + 2 * (3 + 2)
    assert space.cost(space.parse("2.50:yes/b")) == {"flops": 1042}
    assert space.cost(space.parse("1:007/b")) == {"flops": 1001.5}
    assert space.format(space.parse({"depth": 2.5, "l1": "yes", "l2": "b"})) == "2.50:yes/b"


def test_encoding_defaults_to_spaces(write):
    space = spaces.load(str(write(ONE)))
    assert [space.format(a) for a in space.all()] == ["p 1", "p 2", "q 1", "q 2"]


def test_byte_order_mark_and_anchors(write):
    text = "name: x\nvariables:\n- {name: a, choices: &ops [p, q]}\n- {name: b, choices: *ops}\n"
    assert spaces.load(write(b"\xef\xbb\xbf" + text.encode())).size == 4


@pytest.mark.parametrize("text", [GOOD, ONE])
def test_spec_is_enough_to_rebuild(write, text):
    space = spaces.load(write(text))
    again = spaces.from_spec(space.spec())
    assert (again.spec(), again.digest(), list(again.all())) == (space.spec(), space.digest(), list(space.all()))
    assert [again.cost(a) for a in again.all()] == [space.cost(a) for a in space.all()]


def vars_(inner):
    return f"name: x\nvariables: [{inner}]\n"


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping.*a list"),
        ("name: [", "line"),
        ("name: x\nname: y\n", "line 2: key 'name' appears twice"),
        ("name: x\n", "`variables`: must be a list.*nothing"),
        ("variables: [{name: a, choices: [p]}]\n", "`name` must be text"),
        ("name: 201\nvariables: [{name: a, choices: [p]}]\n", "`name` must be text, but got '201'"),
        ("name: ''\nvariables: [{name: a, choices: [p]}]\n", "`name` must be one line"),
        ("name: x\nvariabels: []\n", "unknown key 'variabels'.*did you mean 'variables'"),
        (vars_("{name: a, choice: [p]}"), "number 1: unknown key 'choice'.*'choices'"),
        (vars_("a"), "number 1: must be a mapping"),
        (vars_("{name: a}"), "'a': `choices`: must be a list"),
        (vars_("{name: a, choices: []}"), "'a': `choices`: must be a list with at least one"),
        (vars_("{name: a, choices: p}"), "'a': `choices`: must be a list"),
        (vars_("{name: a, choices: [yes, no]}"), "'a': YAML reads a choice as True.*quotes"),
        (vars_("{name: a, choices: [~]}"), "'a': a choice must be text or a number, but got nothing"),
        (vars_("{name: a, choices: [2001-01-01]}"), "'a': a choice must be text or a number.*quotes"),
        (vars_("{name: a, choices: [.nan]}"), "'a': a choice must be text or a number"),
        (vars_("{name: a, choices: [[p]]}"), "'a': a choice must be text or a number, but got a list"),
        (vars_("{name: a, choices: [p, p]}"), "'a'.*'p' appears twice"),
        (vars_("{name: a, choices: [p]}, {name: a, choices: [p]}"), "'a' appears twice"),
        (vars_("{name: yes, choices: [p]}"), "number 1: `name` must be text, but got 'True'"),
        (vars_("{name: a, choices: [p], active_if: {b: [q]}}, {name: b, choices: [q]}"), "`active_if` names 'b'.*none"),
        (
            vars_("{name: a, choices: [p]}, {name: b, choices: [q], active_if: {a: [z]}}"),
            "'b': `active_if` a: 'z' is none",
        ),
        (
            vars_("{name: a, choices: [p]}, {name: b, choices: [q], active_if: {a: []}}"),
            "'b': `active_if` a: must be a list",
        ),
        (
            vars_("{name: a, choices: [p]}, {name: b, choices: [q], active_if: [a]}"),
            "'b': `active_if` must be a mapping",
        ),
        (ONE + "encoding: 7\n", "`encoding` must be text"),
        (ONE + "encoding: '{b} {a}'\n", "encoding must name every variable once, in their order"),
        (ONE + "encoding: '{a}{c}'\n", "but names a, c"),
        (ONE + "costs: {flop: {a: [1, 2]}}\n", "unknown key 'flop'.*did you mean 'flops'"),
        (ONE + "costs: {flops: {c: [1, 2]}}\n", "`costs` flops: unknown key 'c'; legal: base, a, b"),
        (ONE + "costs: {flops: {a: [1]}}\n", "flops: a has 1 numbers for 2 choices"),
        (ONE + "costs: {flops: {a: 1}}\n", "flops: a: must be a list"),
        (
            ONE + "costs: {flops: {a: [1, -2]}}\n",
            "flops: a: a cost must be a finite number, zero or more, but got '-2'",
        ),
        (ONE + "costs: {flops: {a: [1, .nan]}}\n", "flops: a: a cost must be a finite number"),
        (ONE + "costs: {flops: {a: [1, true]}}\n", "flops: a: a cost must be a finite number"),
        (ONE + "costs: {flops: {base: .inf}}\n", "flops: base: a cost must be a finite number"),
        (ONE + "costs: [1]\n", "`costs`: must be a mapping"),
        ("name: !!python/object/apply:os.system [echo]\n", "line 1: .*tag.*tags are not allowed"),
        ("name: !mine x\n", "tags are not allowed"),
        (vars_("{name: a, choices: !!set {p, q}}"), "'a': `choices`: must be a list"),
        (vars_("{<<: {name: a}, choices: [p]}"), "keys must be plain names"),
        ("name: x\n---\nname: y\n", "line"),
        ("name: *nowhere\n", "line 1.*undefined alias"),
        ("name: &a [*a]\n", "`name` must be text, but got a list"),
        ("name: 'a\tb\n", "line"),
        ("name: \x00\n", "not readable as YAML"),
        ("name: " + "[" * 5000 + "\n", "nested too deeply"),
        (b"name: caf\xe9\n", "not UTF-8"),
        (b"name: " + b"x" * 300_000, "larger than 256 KiB"),
        ("name: x\nvariables:\n" + "".join(f"- {{name: v{i}, choices: [a]}}\n" for i in range(300)), "at most 256"),
    ],
)
def test_one_sentence_names_file_and_culprit(write, text, culprit):
    path = write(text)
    with pytest.raises(UserError, match=culprit) as error:
        spaces.load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_alias_bomb_is_refused_quickly(write):
    """Nine levels of tenfold aliases: a billion entries if anything walked or printed them."""
    lines = ["a: &a [p]"] + [
        f"{n}: &{n} [{', '.join(['*' + p] * 10)}]" for p, n in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    with pytest.raises(UserError, match="unknown key 'a'"):
        spaces.load(write("\n".join(lines)))
    nested = "\n".join(lines).replace("a: &a [p]", "name: x\nvariables: &a [p]")
    with pytest.raises(UserError):
        spaces.load(write(nested))


def test_missing_file_folder_and_options(tmp_path, write):
    with pytest.raises(UserError, match="no such file"):
        spaces.load(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        spaces.load(tmp_path)
    with pytest.raises(UserError, match="takes no option, but got dataset"):
        spaces.load(write(ONE), dataset="cifar10")
