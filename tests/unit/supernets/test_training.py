"""Training of supernets and of single networks: it learns, it goes on where it was killed, it reaches every weight."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import torch
from torch import nn

from collm_nas import images, spaces, supernets
from collm_nas.api import UserError
from collm_nas.supernets import base, batches, retrain, schedule, session, training

CPU = torch.device("cpu")


def digits(limit=64, size=32):
    """Batches of the built-in images."""
    data = images.open("digits", valid=200, limit=limit)
    supernet = supernets.fresh(spaces.load("digits-mbconv"))
    return batches.prepare(data.train, supernet.inputs(supernet.space.sample(random.Random(0))), size, 0, CPU)


def noise(supernet, n, size):
    """Batches of random images for a supernet of larger ones."""
    inputs = supernet.inputs(supernet.space.sample(random.Random(0)))
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (n, inputs.channels, inputs.side, inputs.side), generator=generator, dtype=torch.uint8)
    return batches.Batches(pixels, torch.randint(10, (n,), generator=generator), inputs, size, seed=0, flip=True)


@pytest.fixture(scope="module")
def few():
    return digits()


def fresh(name="digits-mbconv"):
    return supernets.fresh(spaces.load(name))


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class Killed(Exception):
    """As if the process had died."""


# --- supernets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["sandwich", "single"])
def test_the_loss_falls_and_the_log_says_so(rule, few, tmp_path):
    told = []
    epochs = 24
    recipe = training.Recipe(rule=rule, epochs=epochs, random_paths=0)  # the largest and the smallest alone: quick
    training.Training(fresh(), few, recipe, tmp_path).run(told.append)
    lines = logged(tmp_path)
    losses = [line["loss"] for line in lines]
    assert lines == told and [line["epoch"] for line in lines] == list(range(1, epochs + 1))
    assert 2.25 < losses[0] < 2.35 and sum(losses[-3:]) / 3 < losses[0] - 0.05


def test_a_sandwich_is_the_largest_two_drawn_and_the_smallest(few, tmp_path):
    made = training.Training(fresh(), few, training.Recipe(), tmp_path)
    chosen = [made._chosen(epoch, step) for epoch in range(3) for step in range(4)]
    assert all(archs[0] == made.largest and archs[-1] == made.smallest and len(archs) == 4 for archs in chosen)
    assert len({arch for archs in chosen for arch in archs[1:-1]}) > 20
    assert chosen == [made._chosen(epoch, step) for epoch in range(3) for step in range(4)]
    single = training.Training(fresh(), few, training.Recipe(rule="single"), tmp_path)
    assert all(len(single._chosen(0, step)) == 1 for step in range(4))


def test_the_others_learn_from_the_largest(few, tmp_path, monkeypatch):
    """In-place distillation: their targets are its probabilities, which get no gradient themselves."""
    made = training.Training(fresh(), few, training.Recipe(), tmp_path)
    targets = []
    monkeypatch.setattr(training.F, "cross_entropy", lambda x, y, **_: targets.append(y) or (x * 0).sum() + 1.0)
    _, x_NCHW, labels_N = next(few.epoch(0))
    made._step(x_NCHW, labels_N, made._chosen(0, 0))
    with torch.no_grad():
        teacher_NK = made._logits(made.largest, x_NCHW).softmax(1)
    assert torch.equal(targets[0], labels_N)
    assert all(torch.allclose(t, teacher_NK, atol=1e-6) and not t.requires_grad for t in targets[1:])
    assert len(targets) == 4


def interrupted(make, stop):
    """Run a training that dies as `stop` says, then another from its folder to the end."""
    with pytest.raises(Killed):
        stop(make())
    made = make()
    made.run()
    return made


def dies_at_step(monkeypatch, number):
    """Within an epoch, with a checkpoint after each step."""

    def stop(made):
        monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
        step, done = made._step, []

        def one(*args):
            if len(done) == number:
                raise Killed
            done.append(args)
            return step(*args)

        made._step = one
        made.run()

    return stop


def dies_at_epoch(number):
    """When an epoch is logged, but not saved yet."""

    def stop(made):
        def progress(line):
            if line["epoch"] == number:
                raise Killed

        made.run(progress)

    return stop


@pytest.mark.parametrize("kind", ["within an epoch", "between log and checkpoint"])
@pytest.mark.parametrize("shrink", [False, True])
def test_a_killed_training_goes_on_as_if_it_had_not(kind, shrink, few, tmp_path, monkeypatch):
    recipe = training.Recipe(epochs=4, shrink=shrink)

    def make(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return training.Training(fresh(), few, recipe, folder, {"space": "digits-mbconv"})

    whole = make("whole")
    whole.run()
    stop = dies_at_step(monkeypatch, 3) if kind == "within an epoch" else dies_at_epoch(2)
    other = interrupted(lambda: make("other"), stop)
    assert all(torch.equal(value, other.supernet.state[key]) for key, value in whole.supernet.state.items())
    logs = [[(line["epoch"], line["loss"]) for line in logged(tmp_path / name)] for name in ("whole", "other")]
    assert logs[0] == logs[1] and len(logs[0]) == 4


def test_dropout_is_drawn_by_the_step(tmp_path, monkeypatch):
    """Dropout once drew from torch's global numbers: a single-path training that was killed went on with others."""

    def make(name):
        (tmp_path / name).mkdir(exist_ok=True)
        supernet = fresh("cifar-shufflenet")
        shown = noise(supernet, 16, 8)
        return training.Training(supernet, shown, training.Recipe(rule="single", epochs=2, batch=8), tmp_path / name)

    torch.manual_seed(1)
    whole = make("whole")
    before = torch.get_rng_state()
    whole.run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = interrupted(lambda: make("other"), dies_at_step(monkeypatch, 3))
    assert all(torch.equal(value, other.supernet.state[key]) for key, value in whole.supernet.state.items())


def test_another_training_in_the_folder_is_refused(few, tmp_path):
    def make(recipe, space="digits-mbconv"):
        return training.Training(fresh(), few, recipe, tmp_path, {"space": space})

    with pytest.raises(Killed):
        dies_at_epoch(2)(make(training.Recipe(epochs=3)))
    held = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="begun with another rate, seed"):
        make(training.Recipe(epochs=3, rate=0.2, seed=1)).run()
    with pytest.raises(UserError, match="begun with another space"):
        make(training.Recipe(epochs=3), "cifar-mbconv").run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == held


def test_the_gradient_reaches_every_trained_tensor(few, tmp_path):
    made = training.Training(fresh(), few, training.Recipe(epochs=1), tmp_path)
    reached, statistics = set(), {k: v.clone() for k, v in made.supernet.state.items() if k not in made.trained}
    for epoch in range(6):
        for step, x_NCHW, labels_N in few.epoch(epoch):
            made._step(x_NCHW, labels_N, made._chosen(epoch, step))
            reached |= {key for key, value in made.trained.items() if value.grad is not None and value.grad.any()}
    assert reached == set(made.trained)
    assert not [key for key, value in statistics.items() if torch.equal(value, made.supernet.state[key])]
    assert not any(value.requires_grad for key, value in made.supernet.state.items() if key in statistics)


def test_a_step_changes_what_its_network_uses_and_nothing_else(tmp_path):
    """One path of a single-path supernet: the other candidates keep their weights and statistics."""
    supernet = fresh("cifar-shufflenet")
    before = {key: value.clone() for key, value in supernet.state.items()}
    shown = noise(supernet, 8, 8)
    made = training.Training(supernet, shown, training.Recipe(rule="single", weight_decay=0.0), tmp_path)
    arch = supernet.space.sample(random.Random(3))
    _, x_NCHW, labels_N = next(shown.epoch(0))
    assert made._step(x_NCHW, labels_N, [arch]) > 0
    changed = {key for key, value in supernet.state.items() if not torch.equal(value, before[key])}
    used = {f"features.{i}.{choice}." for i, choice in enumerate(arch.choices)}
    inside = {key for key in before if not key.startswith("features.") or key.startswith(tuple(used))}
    assert changed == inside


def test_an_autoformer_takes_a_step(tmp_path):
    supernet = fresh("autoformer-tiny")
    shown = noise(supernet, 2, 2)
    made = training.Training(supernet, shown, training.Recipe(rule="single"), tmp_path)
    _, x_NCHW, labels_N = next(shown.epoch(0))
    assert 5 < made._step(x_NCHW, labels_N, [made.smallest]) < 9  # about log 1000
    gradient_KE = made.trained["head.weight"].grad
    assert gradient_KE[:, :192].any(0).all() and not gradient_KE[:, 192:].any()


def test_training_runs_the_network_that_is_extracted(few, tmp_path):
    made = training.Training(fresh(), few, training.Recipe(), tmp_path)
    arch = made.space.sample(random.Random(5))
    _, x_NCHW, _ = next(few.epoch(0))
    alone = base.extract(made.supernet, arch).train()
    with torch.no_grad():
        assert torch.allclose(made._logits(arch, x_NCHW), alone(x_NCHW), atol=1e-6)


# --- which architectures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-mbconv", "cifar-mbconv", "cifar-shufflenet", "ofa-mbv3", "autoformer-tiny"])
def test_extremes(name):
    space, rng = spaces.load(name), random.Random(0)
    largest, smallest = (space.cost(arch)["params"] for arch in training.extremes(supernets.fresh(space)))
    sizes = [space.cost(space.sample(rng))["params"] for _ in range(100)]
    assert smallest <= min(sizes) and max(sizes) <= largest and smallest < largest


def names(space, progress):
    return [space.variables[i].name for i in training.released(space, progress)]


@pytest.mark.parametrize(
    ("space", "always", "phases"),
    [
        ("digits-mbconv", "", ("ks", "d", "e")),
        ("ofa-mbv3", "r", ("ks", "d", "e")),
        # These names were once misspelled, so that nothing of AutoFormer was ever held back.
        ("autoformer-tiny", "", ("-", "depth", "mlp heads embed_dim")),
    ],
)
def test_shrinking_releases_kernels_then_depths_then_widths(space, always, phases):
    whole = spaces.load(space)
    for quarter in range(4):
        kinds = set(" ".join([always, *phases[:quarter]]).split())
        wanted = [v.name for v in whole.variables if v.name.rstrip("0123456789") in kinds]
        assert names(whole, quarter / 4) == names(whole, quarter / 4 + 0.24) == wanted
    assert len(names(whole, 0.999)) == len(whole.variables)


def test_kernels_are_drawn_for_every_block_while_depths_are_held(few, tmp_path):
    """Blocks that the draw's own depth had left out once came with the first kernel, though they were in use."""
    made = training.Training(fresh(), few, training.Recipe(epochs=4, shrink=True), tmp_path)
    assert made._chosen(0, 0) == [made.largest]
    seen = Counter()
    for step in range(60):
        _, *drawn, smallest = made._chosen(1, step)
        for arch in drawn:
            named = made.space.official(arch)
            assert named["d"] == [3, 3, 3] and named["e"] == [4] * 9
            seen.update((i, kernel) for i, kernel in enumerate(named["ks"]))
        assert made.space.official(smallest)["ks"] == [3] * 9
    assert all(35 < seen[i, kernel] < 85 for i in range(9) for kernel in (3, 5))  # 60 expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rule": "double"}, "legal: sandwich, single"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"random_paths": -1}, "--random-paths"),
        ({"rate": 0.0}, "--rate"),
        ({"rate": float("nan")}, "--rate"),
        ({"weight_decay": -1.0}, "--weight-decay"),
    ],
)
def test_recipes_refuse(wrong, words):
    with pytest.raises(UserError, match=words):
        training.Recipe(**wrong)
    if next(iter(wrong)) not in ("rule", "random_paths"):
        with pytest.raises(UserError, match=words):
            retrain.Recipe(**wrong)


def test_a_session_refuses_before_it_makes_a_folder(tmp_path):
    for space, data, options, words in (
        ("cifar-mbconv", "digits", {}, "RGB images, but those of digits are gray"),
        ("cifar-mbconv", None, {}, "needs images"),
        ("nasbench201", "digits", {}, "no supernet"),
        ("digits-mbconv", None, {"valid": 0}, "no image is held out"),
        ("digits-mbconv", None, {"device": "cuda:99"}, "not on this machine; it has cpu"),
        ("digits-mbconv", None, {"epochs": 0}, "--epochs"),
    ):
        with pytest.raises(UserError, match=words):
            session.train(space, data, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


# --- batches and schedule ---------------------------------------------------------------------------------------------


def test_an_epoch_shows_every_image_once_and_goes_on_from_any_step(few):
    whole = list(few.epoch(3))
    assert [step for step, _, _ in whole] == [0, 1] == list(range(few.steps))
    assert Counter(torch.cat([y for _, _, y in whole]).tolist()) == Counter(few.labels_N.tolist())
    for (step, x, y), (other, x_again, y_again) in zip(whole[1:], few.epoch(3, 1), strict=True):
        assert step == other and torch.equal(x, x_again) and torch.equal(y, y_again)
    assert not torch.equal(whole[0][1], next(few.epoch(4))[1])


def test_images_are_shifted_and_only_coloured_ones_mirrored():
    side = 8
    pixels = torch.zeros(64, 1, side, side, dtype=torch.uint8)
    pixels[:, :, 3, 3] = 255  # one point
    pixels[:, :, 3, 4] = 128  # and what is right of it
    inputs = digits().inputs
    for flip in (False, True):
        shown = batches.Batches(pixels, torch.zeros(64, dtype=torch.long), inputs, 64, 0, flip)
        x_NHW = next(shown.epoch(0))[1][:, 0]
        places = [divmod(int(x_HW.flatten().argmax()), side) for x_HW in x_NHW]
        right = [bool(x_HW[i, j + 1] > x_HW[i, j - 1]) for x_HW, (i, j) in zip(x_NHW, places, strict=True)]
        assert {i for i, _ in places} == {2, 3, 4} and {j for _, j in places} >= {2, 3, 4}
        assert all(right) != flip and (not flip or 16 < sum(right) < 48)


def test_the_rate_rises_and_falls():
    [parameter] = nn.Linear(1, 1, bias=False).parameters()
    made, seen = schedule.optimizer({"w": parameter}, 0.2, 0.0), []
    for step in range(100):
        schedule.set_rate(made, step / 100)
        seen.append(made.param_groups[0]["lr"])
    assert max(seen) == pytest.approx(0.2, rel=0.01) and 3 <= seen.index(max(seen)) <= 6
    assert seen[0] < 0.02 and seen[-1] < 0.001 and seen[10:] == sorted(seen[10:], reverse=True)


# --- one network alone ------------------------------------------------------------------------------------------------


def alone(name, seed=0):
    supernet = fresh(name)
    return base.extract(supernet, supernet.space.sample(random.Random(seed)))


def test_a_network_learns_alone(few):
    told = []
    recipe = retrain.Recipe(epochs=40, batch=32)
    assert retrain.train(alone("digits-mbconv"), few, recipe, progress=told.append) > 0
    assert [line["epoch"] for line in told] == list(range(1, 41)) and told[-1]["loss"] < told[0]["loss"] - 0.5


@pytest.mark.parametrize("when", ["after each step", "at the end alone"])
def test_a_network_that_was_killed_goes_on_as_if_it_had_not(when, tmp_path, monkeypatch):
    """With dropout, whose draws must be those of the step."""
    shown, recipe = noise(fresh("cifar-shufflenet"), 24, 8), retrain.Recipe(epochs=2, batch=8)
    whole, told = alone("cifar-shufflenet"), []
    retrain.train(whole, shown, recipe, progress=told.append)
    if when == "after each step":
        monkeypatch.setattr(retrain, "SAVE_EVERY", -1.0)
    step, done = retrain._step, []

    def one(*args):
        if len(done) == 4:
            raise Killed
        done.append(args)
        return step(*args)

    path, other, again = tmp_path / "checkpoint.pt", alone("cifar-shufflenet"), []
    with monkeypatch.context() as patched:
        patched.setattr(retrain, "_step", one)
        with pytest.raises(Killed):
            retrain.train(other, shown, recipe, path)
    assert path.exists() == (when == "after each step")
    other = alone("cifar-shufflenet")
    seconds = retrain.train(other, shown, recipe, path, again.append, {"from": "fresh"} if not path.exists() else None)
    for (key, value), same in zip(whole.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, same), key
    assert told[-1]["loss"] == pytest.approx(again[-1]["loss"], rel=1e-6)
    finished = alone("cifar-shufflenet")
    assert retrain.train(finished, shown, recipe, path) == seconds, "a finished one only reads its weights"
    assert torch.equal(finished.classifier.weight, whole.classifier.weight) and not finished.training


def test_a_network_of_another_recipe_is_refused(few, tmp_path):
    path, recipe = tmp_path / "checkpoint.pt", retrain.Recipe(epochs=1, batch=32)
    retrain.train(alone("digits-mbconv"), few, recipe, path, identity={"arch": "a"})
    with pytest.raises(UserError, match=r"begun with epochs 1, not 2; give the same"):
        retrain.train(alone("digits-mbconv"), few, retrain.Recipe(epochs=2, batch=32), path, identity={"arch": "a"})
    with pytest.raises(UserError, match="begun with arch a, not b"):
        retrain.train(alone("digits-mbconv"), few, recipe, path, identity={"arch": "b"})
