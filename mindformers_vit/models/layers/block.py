"""The pre-norm transformer block of ViT (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn

from mindformers_vit.models.layers.attention import Attention
from mindformers_vit.models.layers.drop_path import DropPath, drop_path_rates
from mindformers_vit.models.layers.mlp import Mlp
from mindformers_vit.models.layers.norm import LayerNorm


class Block(nn.Cell):
    """x += drop(attn(norm1(x))); x += drop(mlp(norm2(x))). The residual stream is float32.

    Args:
        width: D.
        num_heads: h.
        hidden: width of the MLP's middle.
        eps: of both layer norms.
        qkv_bias: whether q, k, v have a bias.
        drop_path_rate: probability of dropping each of the two branches of a sample.
        compute_dtype: the type of the matrix products.
    """

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        hidden: int,
        eps: float,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        compute_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=eps)
        self.attn = Attention(
            width, num_heads=num_heads, qkv_bias=qkv_bias, compute_dtype=compute_dtype
        )
        self.norm2 = LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, compute_dtype=compute_dtype)
        self.drop_path = DropPath(drop_path_rate)

    def construct(self, x: ms.Tensor, noise: ms.Tensor | None = None) -> ms.Tensor:
        """x (B, T, D), noise (B, 2) of this block or None (nothing is dropped) -> (B, T, D)."""
        x = x + self.kept(self.attn(self.norm1(x)), noise, 0)  # (B, T, D)
        return x + self.kept(self.mlp(self.norm2(x)), noise, 1)  # (B, T, D)

    def kept(self, branch: ms.Tensor, noise: ms.Tensor | None, number: int) -> ms.Tensor:
        """What is added of branch 0 or 1: (B, T, D) float32."""
        branch = branch.astype(ms.float32)  # (B, T, D)
        return branch if noise is None else self.drop_path(branch, noise[:, number])


def block_list(
    depth: int,
    width: int,
    *,
    num_heads: int,
    hidden: int,
    eps: float,
    qkv_bias: bool = True,
    drop_path_rate: float = 0.0,
    compute_dtype: str = "float32",
) -> nn.CellList:
    """`depth` equal blocks; the drop path rate grows linearly from 0 to `drop_path_rate`."""
    return nn.CellList(
        [
            Block(
                width,
                num_heads=num_heads,
                hidden=hidden,
                eps=eps,
                qkv_bias=qkv_bias,
                drop_path_rate=rate,
                compute_dtype=compute_dtype,
            )
            for rate in drop_path_rates(drop_path_rate, depth)
        ]
    )
