"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382), its randomness an input.

The noise comes from the loader, so a resumed run drops the same paths.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn


class DropPath(nn.Cell):
    """What each branch of each sample is multiplied by: 0 or 1 / (1 - its rate).

    Args:
        rate: of the last block's two branches; it rises linearly from 0, the first block's.
        depth: L, the number of blocks.
    """

    def __init__(self, rate: float, depth: int) -> None:
        super().__init__()
        both = np.repeat(np.linspace(0.0, rate, depth), 2)  # (2·L,)
        self.rates = ms.Tensor(both.astype(np.float32))
        self.keep = ms.Tensor((1.0 - both).astype(np.float32))

    def construct(self, noise: ms.Tensor) -> ms.Tensor:
        """noise (B, 2·L) uniform in [0, 1): kept where noise >= rate -> (B, 2·L) float32."""
        return (noise >= self.rates).astype(ms.float32) / self.keep  # (B, 2·L)
