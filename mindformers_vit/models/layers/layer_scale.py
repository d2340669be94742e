"""A learned factor for each channel of a residual branch (Touvron et al. 2021, arXiv 2103.17239).

Its gradient is a matrix product with ones, for the reason `linear` gives.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops


class ScaleChannels(nn.Cell):
    """(M, D) · (D,)."""

    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.MatMul()

    def construct(self, x: ms.Tensor, gamma: ms.Tensor) -> ms.Tensor:
        return x * gamma  # (M, D)

    def bprop(self, x, gamma, out, dout):
        ones = ops.ones((1, x.shape[0]), x.dtype)  # (1, M)
        return dout * gamma, self.matmul(ones, dout * x).reshape(-1)  # (M, D), (D,)
