"""`CategoricalSpace`: definition, canonical form, spellings, counting, restriction."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from collm_nas.api import UserError, Variable
from collm_nas.spaces.base import CategoricalSpace


def depth_space(**options):
    """Depth 1 to 3; layer 2 from depth 2 on, layer 3 at depth 3; `s` only if layer 2 is `conv`."""
    return CategoricalSpace(
        "depth",
        [
            Variable("d", ("1", "2", "3")),
            Variable("l1", ("conv", "pool")),
            Variable("l2", ("pool", "conv"), ((0, frozenset({1, 2})),)),
            Variable("s", ("a", "b", "c"), ((2, frozenset({1})),)),
            Variable("l3", ("conv", "pool"), ((0, frozenset({2})),)),
        ],
        **options,
    )


def test_count_by_hand():
    space = depth_space()
    # depth 1: 2; depth 2: 2 * (1 + 3); depth 3: 2 * (1 + 3) * 2
    assert space.size == 2 + 8 + 16 == len(list(space.all()))
    assert space.count((1,)) == 8
    assert space.count((0, 0, 1)) == 0  # l2 is inactive at depth 1: only 0 is canonical
    assert space.count((3,)) == space.count((-1,)) == 0


def test_inactive_choices_are_canonical():
    space = depth_space()
    assert space.make((0, 1, 1, 2, 1)) == space.make((0, 1, 0, 0, 0))
    assert space.parse("1 pool conv c pool") == space.parse("1 pool pool a conv")
    assert space.format(space.parse("1 pool conv c pool")) == "1 pool pool a conv"
    assert space.format(space.make((0, 1, 1, 2, 1)), "compact") == "a0b1"
    assert space.format(space.make((1, 0, 1, 2, 0)), "compact") == "a1b0c1d2"


def test_an_inactive_variable_may_be_left_out_of_a_mapping():
    space = depth_space()
    assert space.parse({"d": 1, "l1": "pool"}) == space.make((0, 1, 0, 0, 0))
    with pytest.raises(UserError, match="'l2' is missing; legal: pool, conv"):
        space.parse({"d": 2, "l1": "pool"})
    with pytest.raises(UserError, match="unknown variable 'depth'"):
        space.parse({"depth": 2})


def test_numbers_match_numeric_choices():
    space = CategoricalSpace("n", [Variable("x", ("0.50", "1", "yes"))])
    assert space.parse({"x": 0.5}).choices == (0,)
    assert space.parse([1.0]).choices == (1,)
    for wrong in (True, "0.5", 2, None):
        with pytest.raises(UserError, match=r"legal: 0.50, 1, yes"):
            space.parse([wrong])


@pytest.mark.parametrize(
    ("text", "encoding", "culprit"),
    [
        ("a0", "compact", "'l1' cannot be read"),
        ("a0b1c0", "compact", "follows the last variable"),
        ("a3b0", "compact", "'d'.*a0..a2"),
        ("A0b0", "compact", "'d'"),
        ("1 conv", "native", "'l1'"),
        ("4 conv pool a conv", "native", "'d'.*legal: 1, 2, 3"),
        (b"1 conv pool a conv", "native", "cannot read"),
        (7, "native", "cannot read"),
        (None, "native", "cannot read"),
    ],
)
def test_what_cannot_be_parsed(text, encoding, culprit):
    with pytest.raises(ValueError, match=culprit):
        depth_space().parse(text, encoding)


@pytest.mark.parametrize("choices", [(0, 0, 0, 0), (0, 2, 0, 0, 0), (-1, 0, 0, 0, 0), (0.5, 0, 0, 0, 0)])
def test_make_refuses(choices):
    with pytest.raises(UserError):
        depth_space().make(choices)


def test_neighbors_by_hand():
    space = depth_space()
    near = {space.format(a, "compact") for a in space.neighbors(space.parse("a0b0", "compact"))}
    assert near == {"a1b0c0", "a2b0c0e0", "a0b1"}


@pytest.mark.parametrize("rng", [random.Random(3), np.random.default_rng(3)], ids=["random", "numpy"])
def test_sample_reaches_all(rng):
    space = depth_space()
    assert {space.sample(rng) for _ in range(600)} == set(space.all())


def test_additive_costs_count_active_choices_only():
    space = depth_space(costs={"flops": {"base": 5, "table": {0: (10, 20, 30), 2: (1, 2)}}, "params": {"base": 7}})
    assert space.cost(space.make((0, 0, 1, 0, 0))) == {"flops": 15, "params": 7}
    assert space.cost(space.make((1, 0, 1, 0, 0))) == {"flops": 27, "params": 7}


def test_restrict():
    space = depth_space()
    rows = [space.parse(t, "compact") for t in ("a2b1c1d2e0", "a0b0", "a2b1c1d0e0")]
    part = space.restrict([*rows, rows[0]])
    assert (part.size, part.restricted, space.restricted) == (3, True, False)
    assert list(part.all()) == rows
    assert part.legal_next(()) == (0, 2)
    assert part.count((2, 1)) == 2
    assert part.neighbors(rows[0]) == [rows[2]]
    assert part.sample(random.Random(0)) in rows
    assert part.digest() != space.digest() == depth_space().digest()
    with pytest.raises(UserError, match="not a row of the table"):
        part.parse("a0b1", "compact")


def test_another_space_s_architecture_is_refused():
    other = CategoricalSpace("other", [Variable("x", ("1", "2"))])
    with pytest.raises(UserError, match=r"'other'.*'depth'"):
        depth_space().format(other.make((0,)))


@pytest.mark.parametrize(
    ("variables", "template", "culprit"),
    [
        ([], None, "no variables"),
        ([Variable("a", ("1",)), Variable("a", ("1",))], None, "'a' appears twice"),
        ([Variable("a", ("1", "1"))], None, "'1' appears twice"),
        ([Variable("a", ())], None, "no choices"),
        ([Variable("a", ("", "b"))], None, "not empty"),
        ([Variable("a", (" b",))], None, "spaces around"),
        ([Variable("a", ("b\n",))], None, "printable"),
        ([Variable("a b", ("1",))], None, "a name must be"),
        ([Variable("a", ("1",), ((0, frozenset({0})),))], None, "must stand before"),
        ([Variable("a", ("1",)), Variable("b", ("1",), ((0, frozenset()),))], None, "never active"),
        ([Variable("a", ("1", "10")), Variable("b", ("0", "1"))], "{a}{b}", "ambiguous at 'a'"),
        ([Variable("a", ("1",))], "{b}", "names b"),
        ([Variable("a", ("1",))], "{a} {a}", "once"),
        ([Variable("a", ("1",)), Variable("b", ("1",))], "{b} {a}", "in their order"),
        ([Variable("a", ("1",))], "{a!r}", "plain"),
        ([Variable("a", ("1",))], "{a:>3}", "plain"),
        ([Variable("a", ("1",))], "{a", "no template"),
        ([Variable("a", ("1",))], "{a}\n", "one line"),
    ],
)
def test_a_bad_definition_is_one_sentence(variables, template, culprit):
    with pytest.raises(UserError, match=culprit) as error:
        CategoricalSpace("bad", variables, template=template)
    assert "bad" in str(error.value)
    assert "\n" not in str(error.value)


def test_template_with_braces_and_special_characters():
    space = CategoricalSpace(
        "odd", [Variable("a.b", ("x+y", "[z]")), Variable("c", ("(1|2)", "é"))], template="{{{a.b}}} ~ {c}!"
    )
    spelled = [space.format(arch) for arch in space.all()]
    assert spelled[0] == "{x+y} ~ (1|2)!"
    assert [space.parse(text) for text in spelled] == list(space.all())
    assert all(re.fullmatch(space.regex("native"), text) for text in spelled)


def test_too_large_for_compact_says_so():
    wide = CategoricalSpace("wide", [Variable(f"v{i}", ("0", "1")) for i in range(60)])
    assert wide.size == 2**60
    for use in (lambda: wide.regex("compact"), lambda: wide.format(wide.make([0] * 60), "compact")):
        with pytest.raises(UserError, match=r"too large for the compact encoding.*native"):
            use()
    assert len(wide.regex("native")) < 2000


def test_conditions_that_do_not_factorise_are_refused_and_do_not_hang():
    parents = [Variable(f"v{i}", tuple("01234")) for i in range(14)]
    last = Variable("last", ("0", "1"), tuple((i, frozenset({0, 1})) for i in range(14)))
    space = CategoricalSpace("knot", [*parents, last])
    with pytest.raises(UserError, match="do not factorise"):
        _ = space.size
    with pytest.raises(UserError, match=r"factorise|too long"):
        space.regex("native")


def test_deep_stages_keep_a_short_regex():
    """Stages whose layers depend on their own depth alone: the expression is a sum over stages, not a product."""
    variables = []
    for stage in range(6):
        start = len(variables)
        variables.append(Variable(f"d{stage}", ("2", "3", "4")))
        for layer in range(4):
            when = ((start, frozenset(range(layer - 1, 3))),) if layer > 1 else ()
            variables.append(Variable(f"k{stage}{layer}", ("3", "5", "7"), when))
    space = CategoricalSpace("stages", variables)
    assert space.size == (9 + 27 + 81) ** 6
    pattern = space.regex("compact")
    assert len(pattern) < 2000
    rng = random.Random(1)
    for _ in range(100):
        text = space.format(space.sample(rng), "compact")
        assert re.fullmatch(pattern, text)
        assert not re.fullmatch(pattern, text[:-2])
