"""The k-nearest-neighbour classifier of frozen features: exact, in chunks, in numpy.

Protocol of Wu et al. 2018 (arXiv 1805.01978) as DINO (arXiv 2104.14294) evaluates with it: cosine
similarity, the k most similar training images vote for their class with exp(similarity / T).

Legend: Q queries, N training images, D width, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_CHUNK = 1 << 24  # similarities held at a time


def knn_votes(
    queries: Array,
    bank: Array,
    labels: Array,
    *,
    num_classes: int,
    num_neighbors: int,
    temperature: float,
) -> Array:
    """The votes for each class, (Q, K) float64; those of equal similarity are taken by position.

    Args:
        queries: (Q, D) of length 1.
        bank: (N, D) of length 1, the training images.
        labels: (N,) class numbers 0 .. K - 1.
        num_classes: K.
        num_neighbors: how many vote; at most N.
        temperature: T, above 0.
    """
    votes = np.zeros((len(queries), num_classes))
    rows = max(1, _CHUNK // len(bank))
    for start in range(0, len(queries), rows):
        similarity = queries[start : start + rows] @ bank.T  # (rows, N)
        for row, values in enumerate(similarity, start):
            chosen = _most_similar(values, num_neighbors)
            weights = np.exp(values[chosen].astype(np.float64) / temperature)
            np.add.at(votes[row], labels[chosen], weights)
    return votes


def _most_similar(values: Array, count: int) -> Array:
    """Positions of the `count` largest; of equal ones the first."""
    least = np.partition(values, -count)[-count]
    above = np.flatnonzero(values > least)
    level = np.flatnonzero(values == least)[: count - len(above)]
    return np.concatenate([above, level])
