"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382), its randomness an input.

The noise comes from the loader, so a resumed run drops the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each block: linear from 0 at the first to `rate` at the last."""
    return [float(value) for value in np.linspace(0.0, rate, depth)]


class DropPath(nn.Cell):
    """What each branch of each sample is multiplied by: 0 or 1 / (1 - its rate).

    Args:
        rates: of dropping the two branches of a block, one for each block.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        super().__init__()
        both = np.repeat(np.asarray(rates, np.float64), 2)  # (2·L,)
        self.rates = ms.Tensor(both.astype(np.float32))
        self.keep = ms.Tensor((1.0 - both).astype(np.float32))

    def construct(self, noise: ms.Tensor) -> ms.Tensor:
        """noise (B, 2·L) uniform in [0, 1): kept where noise >= rate -> (B, 2·L) float32."""
        return (noise >= self.rates).astype(ms.float32) / self.keep  # (B, 2·L)
