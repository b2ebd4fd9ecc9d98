"""Scores of subnets against plain loops, races that stop, and the images that each protocol takes."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from collm_nas import images, spaces, supernets
from collm_nas.api import UserError
from collm_nas.evaluators import attempt
from collm_nas.evaluators.supernet import SupernetEvaluator
from collm_nas.supernets import base, protocols
from collm_nas.supernets.recalibration import averaged, recalibrate
from collm_nas.supernets.scoring import RACE, Score, Scorer, folded, hopeless

CPU = torch.device("cpu")


def lively(supernet):
    """With statistics and weights that a training would leave, instead of the identity."""
    generator = torch.Generator().manual_seed(0)
    for key, value in supernet.state.items():
        if key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2, generator=generator)
        elif key.endswith("running_var") or (key.endswith("weight") and value.dim() == 1):
            value.uniform_(0.5, 2, generator=generator)
        elif key.endswith("weight") and value.dim() == 2:
            value.normal_(0, 0.3, generator=generator)
    return supernet


def made(name):
    return lively(supernets.fresh(spaces.load(name)))


@pytest.fixture(scope="module")
def digits():
    return images.open("digits", valid=800)


@pytest.fixture(scope="module")
def supernet():
    return made("digits-mbconv")


@pytest.fixture(autouse=True)
def one_thread():
    """Chunks one after the other, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scorer(supernet, data, protocol="fast"):
    return Scorer(supernet, data, protocols.named(protocol), CPU)


def plain(network, split, inputs):
    """Share of correct answers, in percent, image by image as they come."""
    with torch.no_grad():
        logits_NK = torch.cat(
            [network(inputs.normalized(x_NCHW, torch.float32)) for x_NCHW in split.pixels(inputs).split(97)]
        )
    return 100 * (logits_NK.argmax(1) == split.labels).double().mean().item()


# --- the network that is scored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-mbconv", "cifar-mbconv", "cifar-shufflenet"])
def test_folding_changes_logits_by_rounding_only(name):
    whole, rng = made(name), random.Random(1)
    for _ in range(3):
        arch = whole.space.sample(rng)
        inputs, network = whole.inputs(arch), base.extract(whole, arch)
        x_NCHW = torch.randn(4, inputs.channels, inputs.side, inputs.side, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            before = network(x_NCHW)
            after = folded(network)(x_NCHW)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        assert before.std() > 1e-2 and (after - before).abs().max() < 1e-5 * max(1, before.abs().max())


@pytest.mark.parametrize("name", ["digits-mbconv", "cifar-shufflenet"])
def test_averaged_gives_the_statistics_of_train_mode(name):
    whole = made(name)
    arch = whole.space.sample(random.Random(2))
    inputs, network = whole.inputs(arch), base.extract(whole, arch)
    plainly = copy.deepcopy(network).train()
    for layer in plainly.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain average of all batches
    x_NCHW = torch.randn(16, inputs.channels, inputs.side, inputs.side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for batch in x_NCHW.split(8):
            plainly(batch)
        assert averaged(network, x_NCHW.split(8)) is network
    assert not any(m.training for m in network.modules())
    pairs = zip(network.modules(), plainly.modules(), strict=True)
    layers = [(a, b) for a, b in pairs if isinstance(a, nn.BatchNorm2d)]
    assert len(layers) > 10 and all(a.momentum == 0.1 for a, _ in layers)
    for layer, other in layers:
        assert torch.allclose(layer.running_mean, other.running_mean, rtol=1e-5, atol=1e-6)
        assert torch.allclose(layer.running_var, other.running_var, rtol=1e-5, atol=1e-6)


def test_a_score_is_that_of_a_plain_loop(supernet, digits):
    mine = scorer(supernet, digits)
    for seed in range(3):
        arch = supernet.space.sample(random.Random(seed))
        inputs, network = supernet.inputs(arch), base.extract(supernet, arch)
        first = digits.train.take(slice(protocols.FAST_CALIBRATION)).pixels(inputs)
        with torch.no_grad():
            averaged(network, inputs.normalized(first, torch.float32).split(protocols.FAST_BATCH))
        for split, held in (("valid", digits.valid), ("test", digits.test)):
            score = mine.score(arch, split)
            assert score.images == len(held)
            assert score.accuracy == pytest.approx(plain(network, held, inputs), abs=100.5 / len(held))


def test_scores_do_not_depend_on_what_was_scored_before(supernet, digits):
    archs = [supernet.space.sample(random.Random(seed)) for seed in range(4)]
    mine = scorer(supernet, digits)
    forwards = [mine.score(arch) for arch in archs]
    state = {key: value.clone() for key, value in supernet.state.items()}
    backwards = [mine.score(arch) for arch in archs[::-1]][::-1]
    assert forwards == backwards == [scorer(supernet, digits).score(arch) for arch in archs]
    assert all(torch.equal(value, supernet.state[key]) for key, value in state.items())


def test_the_official_procedures_are_taken(supernet, digits):
    """By hand, with another loop: `ofa` on a data set so small that it takes all of it."""
    arch = supernet.space.sample(random.Random(0))
    inputs, network = supernet.inputs(arch), base.extract(supernet, arch)
    mine = scorer(supernet, digits, "ofa")
    shown = mine.splits["calibration"].augmented(inputs, "ofa", 0)
    recalibrate(network, [inputs.normalized(x_NCHW, torch.float32) for x_NCHW in shown.split(200)], "ofa")
    own = mine.network(arch).state_dict()
    for key, value in network.state_dict().items():
        assert torch.allclose(value, own[key], rtol=1e-4, atol=1e-5), key


# --- the score --------------------------------------------------------------------------------------------------------


class Known(nn.Module):
    """Right where `right_N` says so, for labels that come in this order."""

    def __init__(self, labels_N, right_N):
        super().__init__()
        self.answers_N = torch.where(right_N, labels_N, (labels_N + 1) % 10)
        self.seen = 0

    def forward(self, x_NCHW):
        answers = self.answers_N[self.seen : self.seen + len(x_NCHW)]
        self.seen += len(x_NCHW)
        return nn.functional.one_hot(answers, 10).float()


def right(share, n=800):
    """So many of each hundred, evenly."""
    return torch.arange(n) * 37 % 100 < share


def known(mine, digits, share, best=-float("inf")):
    network = Known(digits.valid.labels, right(share))
    score = mine.score_network(network, mine.supernet.inputs(mine.supernet.space.sample(random.Random(0))), best=best)
    return score, network.seen


@pytest.fixture(scope="module")
def mine(supernet, digits):
    return scorer(supernet, digits)


@pytest.mark.parametrize("share", [0, 13, 50, 92, 100])
def test_accuracy_and_standard_error(share, mine, digits):
    score, seen = known(mine, digits, share)
    assert score.accuracy == pytest.approx(share) and seen == score.images == 800
    assert score.error == pytest.approx(100 * np.std(right(share).numpy()) / np.sqrt(800))


class Hungry(Known):
    """Has memory for so many images at once."""

    def __init__(self, labels_N, right_N, room):
        super().__init__(labels_N, right_N)
        self.room, self.tried = room, []

    def forward(self, x_NCHW):
        self.tried.append(len(x_NCHW))
        if len(x_NCHW) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")
        return super().forward(x_NCHW)


def test_too_little_memory_halves_what_is_run_at_once(mine, digits):
    inputs = mine.supernet.inputs(mine.supernet.space.sample(random.Random(0)))
    network = Hungry(digits.valid.labels, right(60), 70)
    assert mine.score_network(network, inputs).accuracy == pytest.approx(60)
    assert network.tried[:3] == [250, 125, 62] and network.seen == 800
    with pytest.raises(torch.OutOfMemoryError):
        mine.score_network(Hungry(digits.valid.labels, right(60), 15), inputs)


def test_an_architecture_that_fits_nowhere_fails_alone(supernet, digits):
    narrow, large = (supernet.space.sample(random.Random(seed)) for seed in (0, 1))

    class Scarce(type(supernet)):
        def network(self, arch):
            made = super().network(arch)
            if arch == large:
                made.register_forward_pre_hook(refuse)
            return made

    def refuse(module, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    scarce = copy.copy(supernet)
    scarce.__class__ = Scarce
    evaluator = SupernetEvaluator(scarce, digits, device="cpu")
    failure = attempt(evaluator, large)
    assert failure.reason.startswith("cpu has too little memory for it: CUDA out of")
    assert not failure.everywhere
    assert (
        attempt(evaluator, narrow).fitness == SupernetEvaluator(supernet, digits, device="cpu").score(narrow).accuracy
    )


@pytest.mark.parametrize(
    ("share", "best", "parts"),
    [
        (50, 99.0, 1),  # hopeless from the first part on: 50 + 3 * 3.5 is far below
        (94, 99.0, 2),  # 94 + 3 * 1.7 could be as good after a quarter, 94 + 3 * 1.2 after a half could not
        (98, 99.0, RACE),  # never three standard errors below
        (99, 95.0, RACE),  # the new best is seen whole
        (50, -float("inf"), RACE),  # nobody to race against
    ],
)
def test_a_race_ends_early_where_it_is_hopeless_and_only_there(share, best, parts, mine, digits, monkeypatch):
    monkeypatch.setattr("collm_nas.supernets.scoring.CHUNK", {"cpu": 100})
    score, seen = known(mine, digits, share, best)
    assert seen == score.images == 800 * parts // RACE
    assert score.accuracy == pytest.approx(share, abs=1)
    assert hopeless(score, best) == (parts < RACE)


def test_a_lucky_start_is_not_hopeless():
    assert not hopeless(Score(100.0, 0.0, 100), 100.0)
    assert not hopeless(Score(98.0, 0.0, 100), 100.0), "an error of 0 on few images is no certainty"
    assert hopeless(Score(96.0, 0.0, 100), 100.0)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_images_of_other_classes_are_refused(digits):
    """Labels 0 to 9 were once held against 1,000 logits, and the score was nonsense."""
    with pytest.raises(UserError, match="tells 7 classes apart, but digits has 10"):
        scorer(supernets.fresh(spaces.load("digits-mbconv", classes=7)), digits)


@pytest.mark.parametrize("name", ["spos", "autoformer"])
def test_no_images_to_calibrate_on_is_said(name, supernet, digits):
    with pytest.raises(UserError, match=f"--protocol {name} leaves no image of digits"):
        scorer(supernet, digits, name).score(supernet.space.sample(random.Random(0)))


def test_unknown_protocols_are_refused():
    with pytest.raises(UserError, match="legal: fast, ofa, spos, autoformer"):
        protocols.named("slow")


# --- which images -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 150 train and 4 test images, the first class the largest."""
    root = tmp_path_factory.mktemp("images")
    for part, n in (("train", 150), ("test", 4)):
        for label, name in enumerate(("ant", "bee", "cat")):
            (root / part / name).mkdir(parents=True)
            for i in range(n - 30 * label * (part == "train")):
                Image.new("RGB", (2, 2), (i, 90 * label, 0)).save(root / part / name / f"{i:03}.ppm")
    return root


def files(split):
    return [split.images.store.name(number) for number in split.numbers_N]


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
@pytest.mark.parametrize("options", [{}, {"valid": 50, "limit": 60}])
def test_no_protocol_takes_a_test_image(name, options, folder):
    data = images.open(folder, **options)
    tested = set(files(data.test))
    for split in protocols.named(name).split(data):
        assert not tested & set(files(split)) and len(set(files(split))) == len(split)


@pytest.mark.parametrize("options", [{}, {"valid": 50, "limit": 60}, {"valid": 0.5, "seed": 3}])
def test_fast_is_scored_on_what_was_not_trained_on(options, folder):
    data = images.open(folder, **options)
    calibration, valid = protocols.named("fast").split(data)
    trained = set(files(data.train))
    assert files(valid) == files(data.valid) and not trained & set(files(valid))
    assert set(files(calibration)) <= trained


def data_of(labels):
    """A data set of which nothing but the labels is known."""
    labels_N = np.asarray(labels)
    digits = images.open("digits", valid=1)
    whole = replace(digits.train, images=replace(digits.train.images, labels_N=labels_N))
    return replace(digits, train=whole)


def test_official_numbers_are_those_of_the_official_seeds():
    """OFA's validation and sub-train sets: torch.randperm of the whole training set under two fixed seeds."""
    data = data_of(np.zeros(40_000))
    calibration, valid = protocols.named("ofa").split(data)
    assert (len(calibration), len(valid)) == (2000, 10_000)
    for split, seed in ((calibration, 937162211), (valid, 2147483647)):
        order = torch.randperm(40_000, generator=torch.Generator().manual_seed(seed))
        assert split.numbers_N.tolist() == order[: len(split)].tolist()


def test_spos_takes_other_images_for_statistics_and_for_scores():
    calibration, valid = protocols.named("spos").split(data_of(np.zeros(40_000)))
    assert (len(calibration), len(valid)) == (25_600, 8000)
    assert not set(calibration.numbers_N) & set(valid.numbers_N)


def test_autoformer_takes_a_hundred_of_each_class():
    labels = [0] * 300 + [1] * 80 + [2] * 150 + [3] * 101 + [label for label in range(4, 10) for _ in range(2)]
    data = data_of(labels)
    calibration, valid = protocols.named("autoformer").split(data)
    assert not len(calibration)
    taken = np.bincount(np.asarray(labels)[valid.numbers_N], minlength=10)
    assert taken.tolist() == [100, 80, 100, 100, *[2] * 6]
    first = list(range(300))
    random.Random(0).shuffle(first)
    assert valid.numbers_N[:100].tolist() == first[:100]


def test_protocols_are_what_the_specification_says():
    told = {p.name: [p.calibration, p.batch, p.procedure, p.augmentation] for p in protocols.PROTOCOLS.values()}
    assert json.loads(json.dumps(told)) == {
        "fast": [512, 128, "average", None],
        "ofa": [2000, 200, "ofa", "ofa"],
        "spos": [25_600, 128, "spos", "spos"],
        "autoformer": [0, 256, "ofa", None],
    }
