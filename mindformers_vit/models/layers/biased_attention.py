"""Attention whose scores have a bias, as BEiT's (arXiv 2106.08254) for each relative position.

Legend: B batch, T tokens, D width, h heads, d = D / h.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.attention import ScaledDotProduct


class BiasedDotProduct(ScaledDotProduct):
    """softmax(q kᵀ + bias) v with bias and softmax in float32; q comes scaled."""

    def construct(self, q, k, v, bias):
        scores = self.matmul_tb(q, k).astype(ms.float32) + bias  # (B, h, T, T)
        attention = self.softmax(scores).astype(v.dtype)  # (B, h, T, T)
        return self.matmul(attention, v), attention  # (B, h, T, d)


class CpuBiasedDotProduct(BiasedDotProduct):
    """The same with its gradient written out, as `CpuScaledDotProduct` has it."""

    def __init__(self) -> None:
        super().__init__()
        self.sum_rows = ops.MatMul()

    def bprop(self, q, k, v, bias, out, dout):
        dscores = self.score_gradient(v, out, dout[0])  # (B, h, T, T)
        dv = self.matmul_ta(out[1], dout[0])  # (B, h, T, d)
        flat = dscores.astype(ms.float32).reshape(q.shape[0], -1)  # (B, h·T·T)
        dbias = self.sum_rows(ops.ones((1, q.shape[0]), ms.float32), flat)  # (1, h·T·T)
        dq, dk = self.matmul(dscores, k), self.matmul_ta(dscores, q)  # (B, h, T, d)
        return dq, dk, dv, dbias.reshape(bias.shape)


class BiasedHeads(nn.Cell):
    """qkv (B, T, 3, h, d), bias (h, T, T) -> softmax(q kᵀ / sqrt(d) + bias) v (B, T, D).

    Args:
        head_width: d.
        dtype: the type of the matrix products.
    """

    def __init__(self, head_width: int, dtype: ms.Type) -> None:
        super().__init__()
        self.scale = head_width**-0.5
        self.core = CpuBiasedDotProduct() if compat.device() == "CPU" else BiasedDotProduct()
        self.kernel = cells.biased_attention() if dtype == ms.float32 else None
        self.has_kernel = self.kernel is not None

    def construct(self, qkv: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        b, t, _, heads, width = qkv.shape
        if self.has_kernel:
            return self.kernel(qkv, bias)[0].reshape(b, t, heads * width)  # (B, T, D)
        q, k, v = ops.unstack(qkv.transpose(2, 0, 3, 1, 4), 0)  # (B, h, T, d) each
        out = self.core(q * self.scale, k, v, bias)[0]  # (B, h, T, d)
        return out.transpose(0, 2, 1, 3).reshape(b, t, heads * width)  # (B, T, D)
