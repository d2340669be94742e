"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382), its randomness an input.

The noise comes from the loader, so a resumed run drops the same paths.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each block: linear from 0 at the first to `rate` at the last."""
    return [float(value) for value in np.linspace(0.0, rate, depth)]


class DropPath(nn.Cell):
    """x · mask / keep with one mask value for each sample; the identity at rate 0."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.keep = 1.0 - rate

    def construct(self, x: ms.Tensor, noise: ms.Tensor) -> ms.Tensor:
        """x (B, T, D), noise (B,) uniform in [0, 1): kept where noise >= rate -> (B, T, D)."""
        if self.rate == 0.0:
            return x
        factor = (noise >= self.rate).astype(x.dtype) / self.keep  # (B,)
        return x * factor.reshape(-1, 1, 1)  # (B, T, D)
