"""Top-k accuracy as exact counts, so that batches and ranks add up to the last sample."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mindformers_vit.errors import DataError, TrainingError

Array = np.ndarray[Any, Any]


class Accuracy:
    """Counts of samples whose label is among the k highest logits.

    Of equal logits the lowest class index ranks first. With fewer than k classes every sample is
    among the k highest.
    """

    def __init__(self, topk: Iterable[int] = (1, 5)) -> None:
        self.topk = tuple(topk)
        if not self.topk or min(self.topk) < 1:
            raise ValueError(f"topk must be positive numbers, given {self.topk}")
        self.counts: Array = np.zeros(1 + len(self.topk), np.int64)  # samples, hits for each k

    def add(self, logits: Array, labels: Array, valid: Array | None = None) -> None:
        """Count a batch.

        Args:
            logits: (B, K).
            labels: (B,) class numbers.
            valid: (B,) bool; rows that are False are padding and not looked at.

        Raises:
            TrainingError: a logit is NaN, so there is no order.
            DataError: a label is outside 0 .. K - 1, or the shapes do not fit.
        """
        logits, labels = np.asarray(logits), np.asarray(labels)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise DataError(f"logits {logits.shape} and labels {labels.shape} do not fit together")
        if valid is not None:
            keep = np.asarray(valid, dtype=bool)
            logits, labels = logits[keep], labels[keep]
        rank = _rank_of_label(logits, labels)
        self.counts += np.array([len(rank), *((rank < k).sum() for k in self.topk)])

    def merge(self, counts: Iterable[Array]) -> None:
        """Add the `counts` of other ranks to these."""
        for other in counts:
            if np.shape(other) != self.counts.shape:
                raise ValueError(f"counts {np.shape(other)} are not of top {self.topk}")
            self.counts = self.counts + np.asarray(other, np.int64)

    def result(self) -> dict[str, float]:
        """{"Top1 Accuracy": fraction, ...}; DataError if nothing was counted."""
        samples = int(self.counts[0])
        if samples == 0:
            raise DataError("no sample was evaluated")
        hits = (int(count) for count in self.counts[1:])
        return {f"Top{k} Accuracy": h / samples for k, h in zip(self.topk, hits, strict=True)}


def figure(name: str, value: float) -> str:
    """A metric as people read it: accuracies in per cent."""
    return f"{100 * value:.2f} %" if name.endswith("Accuracy") else f"{value:.4f}"


def best(name: str, values: Iterable[float]) -> float:
    """Of an accuracy the highest, of a loss the lowest."""
    return max(values) if name.endswith("Accuracy") else min(values)


def _rank_of_label(logits: Array, labels: Array) -> Array:
    """(B,) number of classes that rank before the label: higher, or equal with a lower index."""
    samples, classes = logits.shape
    nan = int(np.isnan(logits).any(axis=1).sum())
    if nan:
        raise TrainingError(f"the logits of {nan} of {samples} samples are NaN")
    if samples and not (labels.min() >= 0 and labels.max() < classes):
        bad = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"label {bad} is outside the network's {classes} classes")
    own = logits[np.arange(samples), labels][:, None]
    before = np.arange(classes)[None, :] < labels[:, None]
    rank: Array = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return rank
