"""Repeated augmentation: which samples, in which order, and how each copy is augmented."""

import numpy as np
import pytest

from mindformers_vit.data.loader import Loader
from mindformers_vit.data.rng import epoch_order
from mindformers_vit.data.sampling import repeated
from mindformers_vit.data.transforms import build_transforms
from tests.data.helpers import TRAIN, same

pytestmark = pytest.mark.fast


def loader(source, copies, batch_size=6, workers=0):
    return Loader(
        source,
        build_transforms(TRAIN),
        batch_size,
        seed=0,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        noise_length=16,
        drop_noise_length=4,
        repeated_augmentation=copies,
    )


def test_the_order_is_that_of_deits_sampler():
    """RASampler: shuffle, repeat each three times, take as many as there are images."""
    for epoch in (0, 1):
        order = epoch_order(0, epoch, 23, shuffle=True)
        positions, copies = repeated(order, 3)
        expected = [i for i in order.tolist() for _ in range(3)][:23]
        assert positions.tolist() == expected
        assert copies.tolist() == ([0, 1, 2] * 8)[:23]
    once, copies = repeated(order, 1)
    assert once.tolist() == order.tolist()
    assert not copies.any()


def test_each_copy_is_augmented_on_its_own(source):
    batches = list(loader(source, 3).epoch(4))
    assert len(batches) == 23 // 6
    order = epoch_order(0, 4, 23, shuffle=True)[:6]
    for step, batch in enumerate(batches):
        first, second = order[2 * step : 2 * step + 2]
        assert batch["index"].tolist() == [first] * 3 + [second] * 3
        assert batch["label"].tolist() == source.labels[batch["index"]].tolist()
        for key in ("image", "noise", "drop_noise"):
            assert len({row.tobytes() for row in batch[key]}) == 6, key


def test_the_first_copy_is_the_plain_augmentation(source):
    """A function of (seed, epoch, sample, copy): copy 0 is what it is without repetition."""
    plain = {}
    for batch in loader(source, 1, batch_size=1).epoch(0):
        plain[int(batch["index"][0])] = batch
    for batch in loader(source, 3).epoch(0):
        for row in (0, 3):
            other = plain[int(batch["index"][row])]
            for key in ("image", "noise", "drop_noise"):
                assert np.array_equal(batch[key][row], other[key][0]), key


def test_entered_anywhere_and_with_workers_it_is_the_same(source):
    whole = list(loader(source, 3).epoch(2))
    assert same(list(loader(source, 3).epoch(2, start_batch=1)), whole[1:])
    with loader(source, 3, workers=2) as several:
        assert same(list(several.epoch(2)), whole)
