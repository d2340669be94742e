"""Layer normalisation (Ba et al. 2016, arXiv 1607.06450), always in float32.

On CPU the gradient is written with matrix products in place of `LayerNormGrad` and row sums,
or with the compiled kernel.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.linear import zeros_parameter


class CpuLayerNorm(nn.Cell):
    """Returns (y, mean, variance) of x (M, D); callers use the first.

    With x̂ = (x-μ)·r, r = 1/sqrt(σ²+eps) and a row mean written ⟨·⟩:
    dx = r·(γ·dy - ⟨γ·dy⟩ - x̂·⟨γ·dy·x̂⟩), dγ = Σ_rows dy·x̂, dβ = Σ_rows dy.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width = width
        self.eps = eps
        self.norm = _layer_norm(eps)
        self.matmul = ops.MatMul()
        self.matmul_ta = ops.MatMul(transpose_a=True)
        self.row = ms.Tensor(np.ones((1, width), np.float32))

    def construct(self, x, gamma, beta):
        return self.norm(x, gamma, beta)

    def bprop(self, x, gamma, beta, out, dout):
        dy = dout[0]  # (M, D)
        mean = out[1].reshape(-1, 1)  # (M, 1)
        rstd = ops.rsqrt(out[2].reshape(-1, 1) + self.eps)  # (M, 1)
        centred = x - self.matmul(mean, self.row)  # (M, D)
        product = dy * centred  # (M, D)
        dgamma = self.matmul_ta(rstd, product).reshape(-1)  # (D,)
        dbeta = self.matmul_ta(ops.ones_like(rstd), dy).reshape(-1)  # (D,)
        column = gamma.reshape(-1, 1)  # (D, 1)
        first = self.matmul(dy, column) * rstd / -self.width  # (M, 1)
        second = self.matmul(product, column) * rstd * rstd * rstd / -self.width  # (M, 1)
        dx = dy * self.matmul(rstd, gamma.reshape(1, -1))  # (M, D)
        dx = dx + centred * self.matmul(second, self.row)  # (M, D)
        dx = dx + self.matmul(first, self.row)  # (M, D)
        return dx, dgamma, dbeta


class LayerNorm(nn.Cell):
    """(x - mean) / sqrt(variance + eps) · gamma + beta over the last axis.

    Args:
        width: size D of the last axis.
        eps: added to the biased variance; the papers differ, so there is no default.
    """

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.gamma = zeros_parameter((width,))
        self.beta = zeros_parameter((width,))
        self.width = width
        self.eps = eps
        on_cpu = compat.device() == "CPU"
        self.norm = CpuLayerNorm(width, eps) if on_cpu else _layer_norm(eps)
        self.kernel = cells.made(cells.LayerNorm, eps)
        self.has_kernel = self.kernel is not None

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., D) -> (..., D) float32."""
        flat = x.reshape(-1, self.width).astype(ms.float32)  # (M, D)
        norm = self.kernel if self.has_kernel else self.norm
        return norm(flat, self.gamma, self.beta)[0].reshape(x.shape)  # (..., D)


def _layer_norm(eps: float) -> ops.LayerNorm:
    return ops.LayerNorm(begin_norm_axis=1, begin_params_axis=1, epsilon=eps)
