"""BEiT's self-attention: a bias of q and v, none of k, and one for each relative position.

Bao et al. 2022, arXiv 2106.08254, following Swin (arXiv 2103.14030) in the bias table.

Legend: B batch, T tokens, D width, h heads, d = D / h, n table rows.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.attention import ScaledDotProduct
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import BiasAdd, Linear, zeros_parameter


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
        o, attention = out
        do = dout[0]  # (B, h, T, d)
        rowsum = (do * o).sum(-1, keepdims=True)  # (B, h, T, 1)
        left = ops.cat((do, -rowsum), -1)  # (B, h, T, d + 1)
        right = ops.cat((v, ops.ones_like(rowsum)), -1)  # (B, h, T, d + 1)
        dscores = attention * self.matmul_tb(left, right)  # (B, h, T, T)
        dv = self.matmul_ta(attention, do)  # (B, h, T, d)
        flat = dscores.astype(ms.float32).reshape(q.shape[0], -1)  # (B, h·T·T)
        dbias = self.sum_rows(ops.ones((1, q.shape[0]), ms.float32), flat)  # (1, h·T·T)
        dq, dk = self.matmul(dscores, k), self.matmul_ta(dscores, q)  # (B, h, T, d)
        return dq, dk, dv, dbias.reshape(bias.shape)


class RelativePositionBias(nn.Cell):
    """The bias that a table gives to each pair of tokens.

    Args:
        index: (T, T) int32 rows of the table, a constant.
    """

    def __init__(self, index: ms.Tensor) -> None:
        super().__init__()
        self.tokens = index.shape[0]
        self.index = index.reshape(-1)  # (T·T,)

    def construct(self, table: ms.Tensor) -> ms.Tensor:
        """(n, h) -> (h, T, T)."""
        bias = ops.gather(table.transpose(1, 0), self.index, 1)  # (h, T·T)
        return bias.reshape(-1, self.tokens, self.tokens)  # (h, T, T)


class SharedRelativePositionBias(nn.Cell):
    """One table for all blocks."""

    def __init__(self, rows: int, num_heads: int, index: ms.Tensor) -> None:
        super().__init__()
        self.relative_position_bias_table = zeros_parameter((rows, num_heads))
        self.look_up = RelativePositionBias(index)

    def construct(self) -> ms.Tensor:
        """-> (h, T, T)."""
        return self.look_up(self.relative_position_bias_table)


class BeitAttention(nn.Cell):
    """x -> proj(softmax(q kᵀ / sqrt(d) + bias) v).

    Args:
        width: D, a multiple of `num_heads`.
        num_heads: h.
        qkv_bias: whether q and v have a bias.
        table_rows: n of the block's own table; 0: it has none.
        index: see `RelativePositionBias`.
        compute_dtype: the type of the matrix products.
    """

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        qkv_bias: bool,
        table_rows: int,
        index: ms.Tensor,
        compute_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_width = width // num_heads
        self.scale = self.head_width**-0.5
        self.dtype = ms_dtype(compute_dtype)
        self.qkv = Linear(width, 3 * width, bias=False, compute_dtype=compute_dtype)
        self.has_qkv_bias = qkv_bias
        if qkv_bias:
            self.q_bias = zeros_parameter((width,))
            self.v_bias = zeros_parameter((width,))
            self.bias_add = BiasAdd()
        self.has_table = table_rows > 0
        if self.has_table:
            self.relative_position_bias_table = zeros_parameter((table_rows, num_heads))
            self.look_up = RelativePositionBias(index)
        self.proj = Linear(width, width, compute_dtype=compute_dtype)
        on_cpu = compat.device() == "CPU"
        self.core = CpuBiasedDotProduct() if on_cpu else BiasedDotProduct()
        self.kernel = cells.biased_attention() if self.dtype == ms.float32 else None
        self.has_kernel = self.kernel is not None

    def construct(self, x: ms.Tensor, shared_bias: ms.Tensor | None = None) -> ms.Tensor:
        """x (B, T, D), shared_bias (h, T, T) or None -> (B, T, D) in `compute_dtype`."""
        b, t, width = x.shape
        qkv = self.project(x).reshape(b, t, 3, self.num_heads, self.head_width)  # (B, T, 3, h, d)
        bias = self.position_bias(shared_bias)  # (h, T, T)
        if self.has_kernel:
            return self.proj(self.kernel(qkv, bias)[0].reshape(b, t, width))  # (B, T, D)
        q, k, v = ops.unstack(qkv.transpose(2, 0, 3, 1, 4), 0)  # (B, h, T, d) each
        out = self.core(q * self.scale, k, v, bias)[0]  # (B, h, T, d)
        return self.proj(out.transpose(0, 2, 1, 3).reshape(b, t, width))  # (B, T, D)

    def project(self, x: ms.Tensor) -> ms.Tensor:
        """(B, T, D) -> (B, T, 3·D), the biases added."""
        qkv = self.qkv(x)  # (B, T, 3·D)
        if not self.has_qkv_bias:
            return qkv
        bias = ops.cat((self.q_bias, ops.zeros_like(self.q_bias), self.v_bias))  # (3·D,)
        flat = self.bias_add(qkv.reshape(-1, qkv.shape[-1]), bias.astype(self.dtype))  # (B·T, 3·D)
        return flat.reshape(qkv.shape)

    def position_bias(self, shared_bias: ms.Tensor | None) -> ms.Tensor:
        """The sum of the block's own bias and the shared one, (h, T, T)."""
        if not self.has_table:
            return shared_bias
        own = self.look_up(self.relative_position_bias_table)
        return own if shared_bias is None else own + shared_bias
