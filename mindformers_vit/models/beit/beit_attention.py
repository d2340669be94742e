"""BEiT's self-attention: a bias of q and v, none of k, and one for each relative position.

Bao et al. 2022, arXiv 2106.08254, following Swin (arXiv 2103.14030) in the bias table.

Legend: B batch, T tokens, D width, h heads, d = D / h, n table rows.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.layers.attention import Attention
from mindformers_vit.models.layers.linear import BiasAdd, zeros_parameter


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


class BeitAttention(Attention):
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
        super().__init__(
            width, num_heads=num_heads, qkv_bias=False, biased=True, compute_dtype=compute_dtype
        )
        self.has_qkv_bias = qkv_bias
        if qkv_bias:
            self.q_bias = zeros_parameter((width,))
            self.v_bias = zeros_parameter((width,))
            self.bias_add = BiasAdd()
        self.has_table = table_rows > 0
        if self.has_table:
            self.relative_position_bias_table = zeros_parameter((table_rows, num_heads))
            self.look_up = RelativePositionBias(index)

    def construct(self, x: ms.Tensor, shared_bias: ms.Tensor | None = None) -> ms.Tensor:
        """x (B, T, D), shared_bias (h, T, T) or None -> (B, T, D) in `compute_dtype`."""
        return self.attend(self.project(x), self.position_bias(shared_bias))

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
