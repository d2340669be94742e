"""Randomness as a function of (seed, epoch, index, purpose): no state, no history.

The generator is Philox (counter based, Salmon et al. 2011), keyed by a hash of the four, so two
different quadruples share nothing and the order of the calls does not matter. Seed 0 is a seed.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def sample_rng(
    seed: int, epoch: int, index: int, purpose: str, copy: int = 0
) -> np.random.Generator:
    """A fresh generator for one draw of one kind: `purpose` is "augment", "mask", "mixup", ...

    `index` is the position in the source for per-sample draws, the step in the epoch for
    per-batch draws; `copy` counts a sample's copies within an epoch (repeated augmentation).
    Costs 7 microseconds.
    """
    copied = f"/{copy:d}" if copy else ""
    text = f"{seed:d}/{epoch:d}/{index:d}/{purpose}{copied}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key.astype(np.uint64)))


def sample_noise(
    seed: int, epoch: int, index: int, purpose: str, length: int, copy: int = 0
) -> NDArray[np.float32]:
    """Uniform [0, 1) for one sample, which a network takes as an input instead of drawing it. (L,)

    `purpose` is "mask": MAE sorts one number for each patch to choose the visible ones, or
    "drop_path": compared with the rate of each residual branch.
    """
    return sample_rng(seed, epoch, index, purpose, copy).random(length, dtype=np.float32)


def epoch_order(seed: int, epoch: int, length: int, *, shuffle: bool) -> NDArray[np.int64]:
    """The positions 0..length-1 in the order in which this epoch visits them. (length,)"""
    if not shuffle:
        return np.arange(length, dtype=np.int64)
    return sample_rng(seed, epoch, 0, "shuffle").permutation(length).astype(np.int64, copy=False)
