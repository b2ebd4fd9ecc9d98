from __future__ import annotations

import numpy as np

from finetune.trainer import mixed_order


def test_micro_batches_have_one_length_and_neighbours_differ() -> None:
    """Batches of one length a step once taught the model to copy; sorting must not outlive the micro-batch."""
    lengths = np.random.default_rng(0).integers(40, 400, 4096).tolist()
    order = mixed_order(lengths, 16, seed=1)
    assert sorted(order) == list(range(4096))
    assert order == mixed_order(lengths, 16, seed=1)
    assert order != mixed_order(lengths, 16, seed=2)
    batches = np.asarray(lengths)[order].reshape(-1, 16)
    padded = batches.max(1) * 16
    assert padded.sum() < 1.05 * sum(lengths)
    means = batches.mean(1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25
