"""Uniform noise that the networks take as an input instead of drawing it themselves.

MAE sorts `noise` to choose the visible patches; drop path compares `drop_noise` with its rate.
Both are functions of (seed, epoch, sample, copy), so a resumed run repeats them to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.data.rng import sample_rng


def mask_noise(
    seed: int, epoch: int, index: int, length: int, copy: int = 0
) -> NDArray[np.float32]:
    """Uniform [0, 1), one number for each of the `length` patches of one sample. (L,)"""
    return sample_rng(seed, epoch, index, "mask", copy).random(length, dtype=np.float32)


def drop_noise(
    seed: int, epoch: int, index: int, length: int, copy: int = 0
) -> NDArray[np.float32]:
    """Uniform [0, 1), one number for each residual branch of one sample. (2 * depth,)"""
    return sample_rng(seed, epoch, index, "drop_path", copy).random(length, dtype=np.float32)
