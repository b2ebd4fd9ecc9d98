from __future__ import annotations

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from collm_nas.api import UserError
from collm_nas.evaluators.landscape import HELD_OUT, Family, draw_landscape, space_of
from collm_nas.prompts import TOKEN_PATTERN, vocabulary
from collm_nas.strategy import Strategy, regex
from data_gen import full_knowledge
from data_gen.advising import advise
from data_gen.best_of_draws import best_of_draws
from data_gen.examples import Stretch, strategy
from data_gen.histories import simulate
from data_gen.mine_landscapes import Landscapes, architecture

TOKEN = re.compile(TOKEN_PATTERN)


def test_examples_are_the_same_each_time_and_made_of_tokens() -> None:
    source = Landscapes(landscapes=15, digests=3)
    for unit in range(15):
        rows = list(source.examples(unit))
        assert rows == list(source.examples(unit))
        assert Counter(r.role for r in rows) == {"navigator": 3, "generator": 6}
        made = [row for row in rows if row.role == "generator"]
        assert all(row.prompt.startswith(f"<a>{row.completion}<a>") for row in made[::2])  # the first anchor itself
        for row in rows:
            assert set(TOKEN.findall(row.prompt + row.completion)) <= set(vocabulary())
            assert row.prompt.endswith("<nav>" if row.role == "navigator" else "<gen>")


def test_held_out_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="held out"):
        Landscapes(landscapes=1, first_seed=HELD_OUT)


@pytest.mark.parametrize("seed", range(10))
def test_labels_are_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = draw_landscape(rng, Family(variables=(3, 4), choices=(2, 3)))
    space = space_of(made, "s")
    best_BV = full_knowledge.best_of_landscape(made, full_knowledge.find_optimum(made, rng))
    everything = np.unique(made.canonical(np.array(list(product(*(range(k) for k in made.sizes))))), axis=0)
    everything = everything[made.feasible(everything)]
    assert made.raw(best_BV)[0] == pytest.approx(made.raw(everything).max())
    best = [architecture(space, x) for x in best_BV]
    label = strategy(space, Stretch(best[:6], [1.0] * 6, [True] * 6), best, rng)
    assert re.fullmatch(regex(space), label.compact(space))
    assert set(label.anchors) <= set(best)
    assert label.anchors[0] == best[0]
    assert Strategy.parse(label.compact(space), space) == label


def test_histories_are_distinct_feasible_and_cut_cleanly() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = draw_landscape(rng, Family(capped=0.5))
        history = simulate(made, full_knowledge.find_optimum(made, rng), 60, rng)
        assert len({tuple(row) for row in history.x_MV.tolist()}) == len(history.x_MV)
        assert made.feasible(history.x_MV).all()
        part = history.cut(20)
        assert len(part.y_M) <= 20
        assert all(s < 20 for s in part.starts)


@pytest.mark.parametrize("length", [0, 40])
def test_the_best_of_draws_is_new_feasible_and_better_than_a_draw(length: int) -> None:
    better, least_gain = 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made = draw_landscape(rng, Family(variables=(6, 8)))
        history = simulate(made, full_knowledge.find_optimum(made, rng), length, rng)
        (found_BV,) = best_of_draws(made, history, 64, rng)
        assert 0 < len(found_BV) <= full_knowledge.BEST
        assert made.feasible(found_BV).all()
        assert not {tuple(x) for x in found_BV.tolist()} & {tuple(x) for x in history.x_MV.tolist()}
        raw_B = made.raw(found_BV)
        assert (np.diff(raw_B) <= 0).all()
        (one_BV,) = best_of_draws(made, history, 1, rng)
        if len(one_BV):
            better += int(raw_B[0] >= made.raw(one_BV)[0])
            least_gain.append(raw_B[0] - made.raw(one_BV)[0])
    assert better >= 0.8 * len(least_gain) > 0
    assert np.mean(least_gain) > 0


def test_draws_as_labels_change_the_answers_alone_and_the_manifest_says_so() -> None:
    optimum, drawn = Landscapes(landscapes=1), Landscapes(landscapes=1, draws=64)
    assert (optimum.labeller, drawn.labeller) == ("full_knowledge", "best_of_draws")
    assert drawn.settings()["draws"] == 64
    first, second = list(optimum.examples(3)), list(drawn.examples(3))
    assert first[0].prompt.partition("<hint>")[0] == second[0].prompt.partition("<hint>")[0]
    assert [one.completion for one in first] != [one.completion for one in second]
    assert list(drawn.examples(3)) == second


def test_further_answers_come_from_draws_of_their_own() -> None:
    source = Landscapes(landscapes=1, draws=16, answers=4)
    answers = []
    for example in source.examples(3):
        if example.role == "generator":
            assert example.others == ()
            continue
        answers.append([example.completion, *example.others])
        assert len(answers[-1]) <= 4
    assert max(len(set(one)) for one in answers) > 1
    assert all(one.startswith("<a>") and "<why" in one for group in answers for one in group)
    with pytest.raises(UserError, match="--answers 2 must be at least 1, and more than 1 only with --draws"):
        Landscapes(landscapes=1, answers=2)


def test_advice_is_new_feasible_and_better_than_chance() -> None:
    gains = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        made = draw_landscape(rng, Family(variables=(6, 10), capped=0.3))
        history = simulate(made, full_knowledge.find_optimum(made, rng), 40, rng)
        found_NV = advise(made, history, 6, rng)
        assert 0 < len(found_NV) <= 6 and made.feasible(found_NV).all()
        assert len({tuple(x) for x in found_NV.tolist()} - {tuple(x) for x in history.x_MV.tolist()}) == len(found_NV)
        gains.append((made.raw(found_NV).mean() - made.raw(history.x_MV).mean()) / made.raw(history.x_MV).std())
        assert len(advise(made, history.cut(0), 6, rng)) == 0
    assert np.mean(gains) > 0.3


def test_some_digests_have_advice_and_labels_may_take_it() -> None:
    source = Landscapes(landscapes=1, draws=16, advised=1.0)
    shown, taken = 0, 0
    for example in (e for unit in range(12) for e in source.examples(unit) if e.role == "navigator"):
        _, found, rest = example.prompt.partition("<advice>")
        shown += bool(found)
        advice = rest.partition("<past>")[0].split("<a>")[1:]
        taken += example.completion.split("<a>")[1] in advice
    assert shown > 12 and taken > shown / 4
    assert not any("<advice>" in e.prompt for e in Landscapes(landscapes=1, draws=16).examples(0))
    for wrong in ({"draws": 16, "advised": 1.5}, {"advised": 0.5}):
        with pytest.raises(UserError, match="--advised"):
            Landscapes(landscapes=1, **wrong)


def test_labels_may_take_advice_that_no_digest_shows() -> None:
    plain, taught = (Landscapes(landscapes=1, draws=16, taught=share) for share in (0.0, 1.0))
    pairs = [both for unit in range(6) for both in zip(plain.examples(unit), taught.examples(unit), strict=True)]
    pairs = [(a, b) for a, b in pairs if a.role == "navigator" and a.source == b.source]
    assert not any("<advice>" in b.prompt for _, b in pairs)
    first = [(a, b) for a, b in pairs[::2]]  # of each landscape; behind it other numbers are drawn
    assert sum(a.completion != b.completion for a, b in first) > len(first) / 3
    assert "taught" in taught.settings()
    for wrong in ({"draws": 16, "taught": -0.1}, {"taught": 0.5}):
        with pytest.raises(UserError, match="--taught"):
            Landscapes(landscapes=1, **wrong)


def test_a_share_of_the_answers_leads_to_the_optimum_all_the_same() -> None:
    def anchors(unit: int, **how: float) -> list[str]:
        rows = Landscapes(landscapes=1, large=0, huge=0, real=0, draws=16, answers=8, **how).examples(unit)
        answers = [text for row in rows if row.role == "navigator" for text in (row.completion, *row.others)]
        return [answer.split("<a>")[1] for answer in answers]

    half, none = [], []
    for unit in range(4):
        (optimum,) = set(anchors(unit, optimal=1.0))
        half += [anchor == optimum for anchor in anchors(unit, optimal=0.5)]
        none += [anchor == optimum for anchor in anchors(unit)]
    assert np.mean(none) + 0.2 < np.mean(half) < 0.9
    for wrong in ({"draws": 16, "optimal": 1.5}, {"optimal": 0.5}):
        with pytest.raises(UserError, match="--optimal"):
            Landscapes(landscapes=1, **wrong)


@pytest.mark.parametrize("draws", [-1, 1, 4])
def test_too_few_draws_are_refused(draws: int) -> None:
    with pytest.raises(UserError, match="--draws"):
        Landscapes(landscapes=1, draws=draws)
