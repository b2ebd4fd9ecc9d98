"""The winner of a run trained alone: from new weights or the supernet's, on images it is not scored on, resumable."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from collm_nas import images, rundir, search, spaces, supernets
from collm_nas.api import UserError
from collm_nas.evaluators import supernet as evaluators
from collm_nas.evaluators import winner
from collm_nas.supernets import base, protocols, retrain, store
from collm_nas.supernets.export import weights

QUICK = {"epochs": 2, "batch": 64, "limit": 192}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of three random candidates of a supernet that knows nothing."""
    folder = tmp_path_factory.mktemp("made")
    data, space = images.open("digits", valid=800), spaces.load("digits-mbconv")
    facts = {"space": space.name, "options": {}, "data": {"source": "digits", **data.describe()}}
    store.save(folder / "net.safetensors", supernets.fresh(space, 5).state, facts)
    evaluator = evaluators.load(None, folder / "net.safetensors")
    search(space, evaluator, budget=3, init=3, optimizer="random", out=folder / "run")
    return SimpleNamespace(run=folder / "run", net=folder / "net.safetensors", space=space)


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made.run, tmp_path / "run")


def opened(run, **options):
    return winner.reopen(run, rundir.load(run)[0], **options)


def test_the_file_holds_the_network_and_the_result_tells_of_it(made, run):
    best = opened(run)
    told = []
    result = winner.train(best, progress=told.append, **QUICK)
    assert sorted(path.name for path in (run / "retrained").iterdir()) == ["model.safetensors", "result.json"]
    assert json.loads((run / "retrained" / "result.json").read_text()) == result
    assert result["arch"] == rundir.load(run)[0]["best"]["arch"] == best.native
    assert (result["from"], result["limit"], result["recipe"]["epochs"]) == ("fresh", 192, 2)
    assert result["recipe"] == {"epochs": 2, "batch": 64, "rate": 0.1, "weight_decay": 1e-4, "seed": 0}
    assert result["costs"] == made.space.cost(best.arch) and result["seconds"] > 0 and len(told) == 2
    assert result["sha256"] == store.sha256(run / "retrained" / "model.safetensors")
    assert result["supernet"] == store.sha256(made.net) and result["data"] == best.evaluator.data.digest

    rows = {(row["weights"], row["name"]): row for row in result["accuracies"]}
    assert list(rows) == [(w, name) for w in ("inherited", "retrained") for name in ("valid", "test")]
    network = base.extract(supernets.fresh(made.space), best.arch)
    read = weights.load(
        network, run / "retrained" / "model.safetensors", best.native
    )  # as `export --weights retrained` does
    assert [row["value"] for row in read["accuracies"]] == [rows["retrained", n]["value"] for n in ("valid", "test")]
    assert set(load_file(run / "retrained" / "model.safetensors")) == set(network.state_dict())
    for split, n in (("valid", 800), ("test", 400)):
        score = best.evaluator.score_network(network, best.arch, split)
        row = rows["retrained", split]
        assert (row["value"], row["error"], row["images"]) == (score.accuracy, score.error, n)
        assert rows["inherited", split]["value"] == best.evaluator.score(best.arch, split).accuracy


def test_it_begins_with_new_weights_or_with_the_supernets(made, run, monkeypatch):
    seen = {}

    def train(network, *_):
        seen.update({key: value.clone() for key, value in network.state_dict().items()})
        return 1.0

    monkeypatch.setattr(retrain, "train", train)
    best = opened(run)
    for start, source in (("fresh", supernets.fresh(made.space, 3)), ("inherited", best.evaluator.supernet)):
        winner.train(best, start, seed=3, **QUICK)
        wanted = base.trained(source.weights(best.arch))
        assert all(torch.equal(seen[key], value) for key, value in wanted.items())
        shutil.rmtree(run / "retrained")


class Killed(Exception):
    """As if the process had died."""


def test_a_second_call_goes_on_and_a_third_changes_nothing(run, tmp_path, monkeypatch):
    other = shutil.copytree(run, tmp_path / "other")
    whole = winner.train(opened(run), **QUICK)
    monkeypatch.setattr(retrain, "SAVE_EVERY", -1.0)

    def dies(line):
        raise Killed

    with pytest.raises(Killed):
        winner.train(opened(other), progress=dies, **QUICK)
    folder = other / "retrained"
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(UserError, match="begun with epochs 2, not 3"):
        winner.train(opened(other), **{**QUICK, "epochs": 3})
    with pytest.raises(UserError, match="begun with from fresh, not inherited"):
        winner.train(opened(other), "inherited", **QUICK)
    again = []
    result = winner.train(opened(other), progress=again.append, **QUICK)
    assert [line["epoch"] for line in again] == [1, 2], "what was told, but not saved, is told again"
    assert {**result, "seconds": 0, "sha256": ""} == {**whole, "seconds": 0, "sha256": ""}
    tensors = [load_file(at / "retrained" / "model.safetensors") for at in (run, other)]
    assert all(torch.equal(value, tensors[1][key]) for key, value in tensors[0].items())

    held = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert winner.train(opened(other), progress=dies, **QUICK) == result
    for changed, words in (
        ({"seed": 1}, "seed 0, not 1"),
        ({"limit": None}, "limit 192, not None"),
        ({"start": "inherited"}, "from fresh, not inherited"),
    ):
        with pytest.raises(UserError, match=f"holds a network trained with {words}; give the same options, or remove"):
            winner.train(opened(other), **{**QUICK, **changed})
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == held


def test_the_training_of_a_former_winner_is_not_taken_for_this_ones(run):
    best = opened(run)
    winner.train(best, **QUICK)
    other = winner.Winner(run, next(iter(best.evaluator.space.neighbors(best.arch))), best.evaluator, best.protocol)
    with pytest.raises(UserError, match="trained with arch"):
        winner.train(other, **QUICK)


def test_images_that_it_is_scored_on_are_not_trained_on(made, tmp_path, monkeypatch):
    """Official protocols score on images of the training set: a network trained on them would only remember."""
    monkeypatch.setattr(winner.batches, "prepare", lambda split, *_: split)
    data = images.open("digits", valid=800)

    def taken(protocol):
        evaluator = evaluators.SupernetEvaluator(supernets.load(made.space, made.net), data, protocol=protocol)
        best = winner.Winner(tmp_path, made.space.sample(random.Random(0)), evaluator, {"images": protocol})
        return evaluator, winner._batches(best, retrain.Recipe(), 500)

    evaluator, images_taken = taken("fast")
    assert images_taken.numbers_N.tolist() == data.train.numbers_N[:500].tolist()
    half = replace(protocols.named("ofa"), split=lambda data: (data.train, data.train.take(slice(300))))
    monkeypatch.setitem(protocols.PROTOCOLS, "ofa", half)
    evaluator, images_taken = taken("ofa")
    assert len(images_taken) == len(data.train) - 300
    assert not set(images_taken.numbers_N) & set(evaluator.splits["valid"].numbers_N)
    monkeypatch.undo()
    with pytest.raises(UserError, match="protocol ofa scores on all of the 597 training images"):
        taken("ofa")


def test_refused(made, run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--from 'old' is unknown; legal: fresh, inherited"):
        winner.train(opened(run), "old")
    with pytest.raises(UserError, match="--epochs must be at least 1"):
        winner.train(opened(run), epochs=0)
    with pytest.raises(UserError, match="--limit must be at least 2"):
        winner.train(opened(run), limit=1)
    assert not (run / "retrained").exists()
    result = rundir.load(run)[0]
    with pytest.raises(UserError, match="found nothing within its caps"):
        winner.reopen(run, {**result, "best": None})
    with pytest.raises(UserError, match="not scored by a supernet"):
        winner.reopen(run, {**result, "protocol": {"source": "table"}}, data="digits")
    moved = tmp_path / "moved.safetensors"
    shutil.copy(made.net, moved)
    assert opened(run, supernet=str(moved)).evaluator.protocol()["supernet"] == str(moved)
    store.save(moved, supernets.fresh(made.space, 6).state, store.facts(made.net))
    with pytest.raises(UserError, match="has changed since the run"):
        opened(run, supernet=str(moved))


def test_a_supernet_of_ones_own_has_no_fresh_weights(made, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "house_of_mine.py").write_text(
        "from collm_nas import spaces, supernets\nnet = supernets.fresh(spaces.load('digits-mbconv'), 2)\n"
    )
    evaluator = evaluators.load(None, "house_of_mine:net", "digits", valid=800)
    search(made.space, evaluator, budget=2, init=2, optimizer="random", out="mine")
    best = opened(tmp_path / "mine")
    with pytest.raises(UserError, match="house_of_mine:net begin is not known here; use --from inherited"):
        winner.train(best, **QUICK)
    assert not (tmp_path / "mine" / "retrained").exists()
    assert winner.train(best, "inherited", **QUICK)["from"] == "inherited"
