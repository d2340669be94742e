"""Which sample goes where: pure arithmetic on positions, no data.

Training: the global batch of a step is a slice of the epoch's order; a rank takes mirrored pairs
(i, GB-1-i) of it, so that "partner = batch flipped" means the same pairs whatever the number of
ranks. Evaluation: every position once, the tail padded with repeats marked invalid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


def num_batches(length: int, global_batch: int, *, drop_last: bool) -> int:
    """Batches in an epoch, the same on every rank."""
    return length // global_batch if drop_last else -(-length // global_batch)


def rank_slots(batch_size: int, rank: int, world_size: int) -> Int:
    """Which places of the global batch this rank fills, in its own order. (batch_size,)

    With an even batch, local places j and B-1-j are the global places i and GB-1-i.
    """
    global_batch = batch_size * world_size
    if batch_size % 2:
        return np.arange(rank * batch_size, (rank + 1) * batch_size)
    half = batch_size // 2
    first = np.arange(rank * half, (rank + 1) * half)
    return np.concatenate([first, global_batch - 1 - first[::-1]])


def repeated(order: Int, copies: int) -> tuple[Int, Int]:
    """Repeated augmentation (arXiv 1902.05509) as DeiT samples it: position and copy number of
    each sample of an epoch. Both (len(order),).

    Every position comes `copies` times in a row, and the epoch is as long as ever, so it visits
    one in `copies` of the source. (DeiT's `RASampler` rounds the length down to a multiple of
    256, which incomplete steps being dropped does here.)
    """
    length = len(order)
    return np.repeat(order, copies)[:length], np.arange(length) % copies


def batch_positions(
    order: Int, step: int, batch_size: int, rank: int, world_size: int
) -> tuple[Int, NDArray[np.bool_]]:
    """The source positions of one batch, and which of them count. Both (batch_size,).

    Places past the end of `order` repeat its last sample with False.
    """
    start = step * batch_size * world_size
    places = start + rank_slots(batch_size, rank, world_size)
    return order[np.minimum(places, len(order) - 1)], places < len(order)
