"""Batch normalisation over the last axis (Ioffe & Szegedy 2015, arXiv 1502.03167), in float32.

As PyTorch: normalised by the biased variance of the batch, the unbiased one kept. The sums over
the rows are matrix products, which are fast on CPU; the gradient is written out.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.layers.linear import zeros_parameter


class BatchStatistics(nn.Cell):
    """Returns (y, mean, variance) of x (M, C) by its own columns; only y has a gradient.

    With x̂ = (x-μ)·r, r = 1/sqrt(σ²+eps) and a column mean written ⟨·⟩:
    dx = γ·r·(dy - ⟨dy⟩ - x̂·⟨dy·x̂⟩), dγ = Σ dy·x̂, dβ = Σ dy.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.matmul = ops.MatMul()

    def construct(self, x, gamma, beta):
        means = ops.ones((1, x.shape[0]), ms.float32) / x.shape[0]  # (1, M)
        mean = self.matmul(means, x)  # (1, C)
        variance = self.matmul(means, ops.square(x - mean))  # (1, C)
        scale = gamma * ops.rsqrt(variance + self.eps)  # (1, C)
        return (x - mean) * scale + beta, mean, variance

    def bprop(self, x, gamma, beta, out, dout):
        dy = dout[0]  # (M, C)
        rstd = ops.rsqrt(out[2] + self.eps)  # (1, C)
        normed = (x - out[1]) * rstd  # (M, C)
        ones = ops.ones((1, x.shape[0]), ms.float32)  # (1, M)
        dgamma = self.matmul(ones, dy * normed)  # (1, C)
        dbeta = self.matmul(ones, dy)  # (1, C)
        dx = dy - dbeta / x.shape[0] - normed * (dgamma / x.shape[0])  # (M, C)
        return dx * (gamma * rstd), dgamma.reshape(-1), dbeta.reshape(-1)


class BatchNorm(nn.Cell):
    """(x - mean) / sqrt(variance + eps) · gamma + beta over the last axis.

    In training by the statistics of the batch, which move `moving_mean` and `moving_variance`;
    otherwise by those. A batch that is not finite moves nothing.

    Args:
        width: size C of the last axis.
        eps: added to the variance.
        momentum: share of the newest batch in the moving statistics, as in PyTorch.
        affine: False has neither gamma nor beta.
    """

    def __init__(
        self, width: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.gamma = zeros_parameter((width,)) if affine else ops.ones(width, ms.float32)
        self.beta = zeros_parameter((width,)) if affine else ops.zeros(width, ms.float32)
        self.moving_mean = zeros_parameter((width,), trainable=False)
        self.moving_variance = zeros_parameter((width,), trainable=False)
        self.width = width
        self.eps = eps
        self.momentum = momentum
        self.by_batch = BatchStatistics(eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., C) -> (..., C) float32."""
        flat = x.reshape(-1, self.width).astype(ms.float32)  # (M, C)
        if self.training:
            y, mean, variance = self.by_batch(flat, self.gamma, self.beta)  # (M, C)
            rows = flat.shape[0]
            self.move(self.moving_mean, mean)
            self.move(self.moving_variance, variance * (rows / max(rows - 1, 1)))
        else:
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.eps)  # (C,)
            y = (flat - self.moving_mean) * scale + self.beta  # (M, C)
        return y.reshape(x.shape)  # (..., C)

    def move(self, statistic: ms.Parameter, newest: ms.Tensor) -> ms.Tensor:
        """Move a statistic (C,) towards that of the newest batch (1, C); the statistic.

        A `None` in its place would make the backward graph of a process's second such network
        one that MindSpore compiles anew while it runs.
        """
        newest = ops.stop_gradient(newest).reshape(-1)  # (C,)
        moved = statistic * (1.0 - self.momentum) + newest * self.momentum  # (C,)
        return ops.assign(statistic, ops.where(ops.isfinite(moved), moved, statistic))
