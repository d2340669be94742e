"""Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762), q, k, v in one projection.

The scores may have a bias, as BEiT's (arXiv 2106.08254) for each relative position.

Legend: B batch, T tokens, D width, h heads, d = D / h.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import Linear


class ScaledDotProduct(nn.Cell):
    """softmax(q kᵀ) v with the softmax in float32; q comes scaled. Returns (out, attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.BatchMatMul()
        self.matmul_ta = ops.BatchMatMul(transpose_a=True)
        self.matmul_tb = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)

    def construct(self, q, k, v):
        scores = self.matmul_tb(q, k).astype(ms.float32)  # (B, h, T, T)
        attention = self.softmax(scores).astype(v.dtype)  # (B, h, T, T)
        return self.matmul(attention, v), attention  # (B, h, T, d)

    def score_gradient(self, v, out, do):
        """v and do (B, h, T, d), the outputs -> (B, h, T, T).

        With P the attention and O = P v: dS = P·(dO vᵀ - rowsum(dO·O)); the subtraction rides
        along as one more column of the matrix product.
        """
        o, attention = out
        rowsum = (do * o).sum(-1, keepdims=True)  # (B, h, T, 1)
        left = ops.cat((do, -rowsum), -1)  # (B, h, T, d + 1)
        right = ops.cat((v, ops.ones_like(rowsum)), -1)  # (B, h, T, d + 1)
        return attention * self.matmul_tb(left, right)  # (B, h, T, T)


class CpuScaledDotProduct(ScaledDotProduct):
    """The same with its gradient written out, where `SoftmaxGrad` takes 29 ms of 31."""

    def bprop(self, q, k, v, out, dout):
        dscores = self.score_gradient(v, out, dout[0])  # (B, h, T, T)
        dv = self.matmul_ta(out[1], dout[0])  # (B, h, T, d)
        return self.matmul(dscores, k), self.matmul_ta(dscores, q), dv


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


class Attention(nn.Cell):
    """x -> proj(softmax(q kᵀ / sqrt(d)) v); the rows of `qkv.weight` are [q | k | v], head by head.

    Args:
        width: D, a multiple of `num_heads`.
        num_heads: h.
        qkv_bias: whether the q, k, v projection has a bias.
        biased: whether `attend` is given a bias of the scores.
        compute_dtype: the type of the matrix products.
    """

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        qkv_bias: bool = True,
        biased: bool = False,
        compute_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_width = width // num_heads
        self.scale = self.head_width**-0.5
        self.dtype = ms_dtype(compute_dtype)
        self.qkv = Linear(width, 3 * width, bias=qkv_bias, compute_dtype=compute_dtype)
        self.proj = Linear(width, width, compute_dtype=compute_dtype)
        if compat.device() == "CPU":
            self.core = CpuBiasedDotProduct() if biased else CpuScaledDotProduct()
        else:
            self.core = BiasedDotProduct() if biased else ScaledDotProduct()
        kind = cells.BiasedAttention if biased else cells.Attention
        self.kernel = cells.made(kind) if self.dtype == ms.float32 else None
        self.has_kernel = self.kernel is not None

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, T, D) -> (B, T, D) in `compute_dtype`."""
        return self.attend(self.qkv(x))

    def attend(self, qkv: ms.Tensor, *bias: ms.Tensor) -> ms.Tensor:
        """qkv (B, T, 3·D), the scores' bias (h, T, T) if there is one -> (B, T, D)."""
        b, t, _ = qkv.shape
        width = self.num_heads * self.head_width
        qkv = qkv.reshape(b, t, 3, self.num_heads, self.head_width)  # (B, T, 3, h, d)
        if self.has_kernel:
            return self.proj(self.kernel(qkv, *bias)[0].reshape(b, t, width))  # (B, T, D)
        q, k, v = ops.unstack(qkv.transpose(2, 0, 3, 1, 4), 0)  # (B, h, T, d) each
        out = self.core(q * self.scale, k, v, *bias)[0]  # (B, h, T, d)
        return self.proj(out.transpose(0, 2, 1, 3).reshape(b, t, width))  # (B, T, D)
