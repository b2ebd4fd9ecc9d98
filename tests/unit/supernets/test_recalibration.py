"""Recalibration against a slow reference: plain loops over numbers, of the two official procedures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from collm_nas import spaces
from collm_nas.api import UserError
from collm_nas.spaces._spos_shufflenet_costs import PLANS
from collm_nas.supernets.recalibration import recalibrate
from collm_nas.supernets.spos_shufflenet import create, expected_keys
from tests.unit.supernets.fill import double, draw, fill, images

GOLDEN = json.loads((Path(__file__).parent / "golden" / "spos.json").read_text(encoding="utf-8"))
EPS = 1e-5
SIZES = (5, 2, 3)


def small_net():
    """Two BatchNorms, the first of them affine with odd weights, dropout after both; float64."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3, stride=2, bias=False),
        nn.BatchNorm2d(2, affine=False),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(2 * 2 * 3, 3),
    ).double()
    with torch.no_grad():
        for layer in (net[1], net[4]):
            layer.running_mean.fill_(0.3)
            layer.running_var.fill_(1.7)
        net[1].weight.uniform_(0.5, 1.5)
        net[1].bias.uniform_(-0.5, 0.5)
    return net.eval()


def small_batches():
    """Unequal sizes, and unequal means, so that differences between batches would show in a variance."""
    return [draw((n, 3, 6, 8), 50 + n) + i for i, n in enumerate(SIZES)]


def channel_statistics(values):
    """Mean and biased variance of a list of numbers."""
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / len(values)


def slow_batch(x, weight=None, bias=None):
    """(mean, biased variance and count of each channel, the batch normalised with them)."""
    means, variances, out = [], [], torch.empty_like(x)
    for c in range(x.shape[1]):
        mean, var = channel_statistics(x[:, c].flatten().tolist())
        scale = (1 if weight is None else weight[c].item()) / (var + EPS) ** 0.5
        out[:, c] = (x[:, c] - mean) * scale + (0 if bias is None else bias[c].item())
        means.append(mean)
        variances.append(var)
    return means, variances, x[:, 0].numel(), out


def averaged(protocol, observed):
    """The final (means, variances) from each batch's (images, means, biased variances, count of numbers)."""
    channels = range(len(observed[0][1]))
    if protocol == "ofa":
        total = sum(n for n, *_ in observed)
        return tuple([sum(o[0] * o[part][c] for o in observed) / total for c in channels] for part in (1, 2))
    mean, var = [0.0 for _ in channels], [1.0 for _ in channels]
    for _, means, variances, count in observed:
        for c in channels:
            mean[c] = 0.9 * mean[c] + 0.1 * means[c]
            var[c] = 0.9 * var[c] + 0.1 * variances[c] * count / (count - 1)
    return mean, var


def close(found, wanted):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    return torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("protocol", ["ofa", "spos"])
def test_small_net_equals_plain_loops(protocol):
    net, batches = small_net(), small_batches()
    first, second = [], []
    with torch.no_grad():
        for x in batches:
            means, variances, count, x = slow_batch(net[0](x), net[1].weight, net[1].bias)
            first.append((len(x), means, variances, count))
            means, variances, count, x = slow_batch(net[3](x.clamp(min=0)))
            second.append((len(x), means, variances, count))
    weights = [p.clone() for p in net.parameters()]

    assert recalibrate(net, iter(batches), protocol) is net
    assert not any(m.training for m in net.modules())
    for layer, observed in ((net[1], first), (net[4], second)):
        means, variances = averaged(protocol, observed)
        assert close(layer.running_mean, means)
        assert close(layer.running_var, variances)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def supernet():
    return create(spaces.load("spos-shufflenet"), double(fill(expected_keys(PLANS["spos-shufflenet"]), GOLDEN["fill"])))


@pytest.mark.parametrize("protocol", ["ofa", "spos"])
def test_spos_subnet_equals_the_statistics_that_its_layers_meet(supernet, protocol):
    """One batch of two images: with every layer's input taken down, its statistics and its output are checked."""
    network = supernet.extract(supernet.space.make(GOLDEN["cases"][0]["arch"]))
    reference = supernet.extract(supernet.space.make(GOLDEN["cases"][0]["arch"]))
    wanted = []

    def normalise(layer, args, _out):
        """Replaces what the layer gives by the batch normalised with its own biased statistics."""
        (x_NCHW,) = args
        mean_C = x_NCHW.transpose(0, 1).flatten(1).sum(1) / x_NCHW[:, 0].numel()
        centred = x_NCHW - mean_C[:, None, None]
        var_C = (centred**2).transpose(0, 1).flatten(1).sum(1) / x_NCHW[:, 0].numel()
        wanted.append((mean_C, var_C, x_NCHW[:, 0].numel()))
        return centred / (var_C[:, None, None] + EPS).sqrt()

    for layer in norms(reference):
        layer.register_forward_hook(normalise)
    x_NCHW = images(224).double()
    with torch.no_grad():
        reference(x_NCHW)
    recalibrate(network, [x_NCHW], protocol)

    assert len(wanted) == len(norms(network)) > 60
    for layer, (mean_C, var_C, count) in zip(norms_in_order(network, x_NCHW), wanted, strict=True):
        if protocol == "spos":
            mean_C, var_C = 0.1 * mean_C, 0.9 + 0.1 * var_C * count / (count - 1)
        assert torch.allclose(layer.running_mean, mean_C, rtol=1e-8, atol=1e-10)
        assert torch.allclose(layer.running_var, var_C, rtol=1e-8, atol=1e-10)


def norms_in_order(network, x_NCHW):
    """The BatchNorms in the order in which they run."""
    seen = []
    hooks = [layer.register_forward_hook(lambda layer, *_: seen.append(layer)) for layer in norms(network)]
    with torch.no_grad():
        network(x_NCHW)
    for hook in hooks:
        hook.remove()
    return seen


def test_ofa_leaves_no_hook_and_no_count():
    net = small_net()
    recalibrate(net, small_batches(), "ofa")
    assert not any(layer._forward_pre_hooks for layer in net.modules())
    assert [int(layer.num_batches_tracked) for layer in norms(net)] == [0, 0]


@pytest.mark.parametrize("momentum", [0.01, None])
def test_the_layers_momentum_plays_no_part_and_is_kept(momentum):
    for protocol in ("ofa", "spos"):
        net, other = small_net(), small_net()
        for layer in norms(other):
            layer.momentum = momentum
        recalibrate(net, small_batches(), protocol)
        recalibrate(other, small_batches(), protocol)
        for a, b in zip(norms(net), norms(other), strict=True):
            assert torch.equal(a.running_mean, b.running_mean)
            assert torch.equal(a.running_var, b.running_var)
            assert b.momentum == momentum


def test_a_failure_leaves_eval_mode_and_no_hook():
    def broken():
        yield small_batches()[0]
        raise OSError("disk")

    for protocol in ("ofa", "spos"):
        net = small_net()
        with pytest.raises(OSError, match="disk"):
            recalibrate(net, broken(), protocol)
        assert not any(m.training or m._forward_pre_hooks for m in net.modules())


def test_no_batch_and_unknown_protocols_are_refused_and_change_nothing():
    net = small_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for protocol in ("ofa", "spos"):
        with pytest.raises(UserError, match="no batch"):
            recalibrate(net, [], protocol)
    with pytest.raises(UserError, match=r"'OFA'.*ofa, spos"):
        recalibrate(net, small_batches(), "OFA")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_without_batchnorm_nothing_is_read():
    def unread():
        raise AssertionError("read")
        yield

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(4)).train()
    assert recalibrate(net, unread(), "ofa") is net
    assert not net.training
