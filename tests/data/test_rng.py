"""Randomness depends on its four keys and on nothing else."""

import itertools

import numpy as np
import pytest

from mindformers_vit.data.rng import epoch_order, sample_noise, sample_rng

pytestmark = pytest.mark.fast


def test_every_key_changes_the_numbers():
    keys = list(itertools.product((0, 1), (0, 1), (0, 1, 11), ("augment", "mask")))
    draws = {key: tuple(sample_rng(*key).random(4)) for key in keys}
    assert len(set(draws.values())) == len(keys)
    assert draws[keys[3]] == tuple(sample_rng(*keys[3]).random(4))


def test_neighbouring_keys_do_not_run_together():
    """(1, 11, x) and (11, 1, x) are different, and so is every split of the digits."""
    firsts = {sample_rng(a, b, c, "x").random() for a, b, c in [(1, 11, 1), (11, 1, 1), (1, 1, 11)]}
    assert len(firsts) == 3


def test_draws_are_uniform_over_samples():
    draws = np.array([sample_rng(0, 0, index, "mask").random() for index in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(draws.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.05


def test_epoch_order():
    first, second = (epoch_order(0, epoch, 50, shuffle=True) for epoch in (0, 1))
    assert sorted(first) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() == epoch_order(0, 0, 50, shuffle=True).tolist()
    assert epoch_order(5, 7, 4, shuffle=False).tolist() == [0, 1, 2, 3]


def test_noise_is_uniform_float32_and_of_its_own():
    mask, drop = (sample_noise(0, 0, 3, purpose, 196) for purpose in ("mask", "drop_path"))
    assert mask.dtype == np.float32
    assert mask.shape == (196,)
    assert 0 <= mask.min() < 0.1 and 0.9 < mask.max() < 1
    assert not np.array_equal(mask, drop)
    assert np.array_equal(mask, sample_noise(0, 0, 3, "mask", 196))
