"""What the networks of transformer blocks share (Dosovitskiy et al. 2021, arXiv 2010.11929).

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.layers.attention import Attention
from mindformers_vit.models.layers.drop_path import DropPath
from mindformers_vit.models.layers.linear import Linear, zeros_parameter
from mindformers_vit.models.layers.mlp import Mlp
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import PatchEmbed, patchify
from mindformers_vit.models.transformer_config import TransformerConfig


class Block(nn.Cell):
    """x += kept(attn(norm1(x))); x += kept(mlp(norm2(x))). The residual stream is float32.

    Args:
        config: of the blocks.
        attn: the attention; None: plain self-attention.
    """

    def __init__(self, config: TransformerConfig, attn: nn.Cell | None = None) -> None:
        super().__init__()
        width, dtype = config.hidden_size, config.compute_dtype
        self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = attn or Attention(
            width,
            num_heads=config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            compute_dtype=dtype,
        )
        self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(width, config.intermediate_size, compute_dtype=dtype)

    def construct(self, x: ms.Tensor, factors: ms.Tensor | None = None) -> ms.Tensor:
        """x (B, T, D), factors (B, 2) of its branches or None (all is kept) -> (B, T, D)."""
        x = x + self.kept(self.attn(self.norm1(x)), factors, 0)  # (B, T, D)
        return x + self.kept(self.mlp(self.norm2(x)), factors, 1)  # (B, T, D)

    def kept(self, branch: ms.Tensor, factors: ms.Tensor | None, number: int) -> ms.Tensor:
        """What is added of branch 0 or 1: (B, T, D) float32."""
        branch = branch.astype(ms.float32)  # (B, T, D)
        return branch if factors is None else branch * factors[:, number].reshape(-1, 1, 1)


def block_list(config: TransformerConfig, make: Callable[[Any], nn.Cell] = Block) -> nn.CellList:
    """The blocks of a trunk, which differ in their weights alone."""
    blocks = nn.CellList([make(config) for _ in range(config.num_hidden_layers)])
    blocks.alike = True  # see `shared_graphs`
    return blocks


class Transformer(PreTrainedModel):
    """Patches, a class token, `blocks`.

    Args:
        config: its settings.
        patch_embed: from the image to the patches' embeddings; None: a linear projection.
    """

    blocks: nn.CellList

    def __init__(self, config: TransformerConfig, patch_embed: nn.Cell | None = None) -> None:
        super().__init__(config)
        self.patch_size = config.patch_size
        self.num_features = config.hidden_size
        self.num_layers = config.num_hidden_layers
        self.patch_embed = patch_embed or PatchEmbed(
            config.num_channels,
            config.patch_size,
            config.hidden_size,
            compute_dtype=config.compute_dtype,
        )
        self.cls_token = zeros_parameter((1, 1, config.hidden_size))
        rate = getattr(config, "drop_path_rate", 0.0)
        self.drop_path = DropPath(rate, config.num_hidden_layers)

    def embed(self, pixel_values: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> (B, N, D)."""
        return self.patch_embed(patchify(pixel_values, self.patch_size))

    def with_token(self, token: ms.Tensor, x: ms.Tensor) -> ms.Tensor:
        """token (1, 1, D) before each image's x (B, N, D) -> (B, T, D)."""
        return ops.cat((ops.tile(token, (x.shape[0], 1, 1)), x), 1)

    def run_blocks(
        self, x: ms.Tensor, drop_noise: ms.Tensor | None = None, *inputs: ms.Tensor
    ) -> ms.Tensor:
        """x (B, T, D), drop_noise (B, 2·L) or None, what else the blocks take -> (B, T, D)."""
        factors = None if drop_noise is None else self.drop_path(drop_noise)  # (B, 2·L)
        for i, block in enumerate(self.blocks):
            own = None if factors is None else factors[:, 2 * i : 2 * i + 2]  # (B, 2)
            x = block(x, own, *inputs)  # (B, T, D)
        return x


class TokenClassifier(Transformer):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`.

    Mean pooling: mean over the patches, then `fc_norm`. Otherwise: `norm`, then the class token.
    """

    def add_head(self, config: Any) -> None:
        """`norm` or `fc_norm`, and `head`."""
        self.mean_pooling = config.use_mean_pooling
        norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if self.mean_pooling:
            self.fc_norm = norm
        else:
            self.norm = norm
        dtype = config.compute_dtype
        self.head = Linear(config.hidden_size, config.num_labels, compute_dtype=dtype)

    def construct(self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None) -> ms.Tensor:
        """Classify images.

        Args:
            pixel_values: (B, C, H, W) normalised images.
            drop_noise: (B, 2·L) uniform in [0, 1) for the drop paths of a training step; without
                it nothing is dropped.

        Returns:
            (B, num_labels) float32 logits.
        """
        return self.forward_head(self.forward_features(pixel_values, drop_noise))  # (B, num_labels)

    def forward_features(
        self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(B, C, H, W) -> (B, T, D), class token first; normalised unless mean pooling is on."""
        raise NotImplementedError

    def pool(self, x: ms.Tensor) -> ms.Tensor:
        """(B, T, D) -> (B, D)."""
        return self.fc_norm(x[:, 1:].mean(1)) if self.mean_pooling else x[:, 0]

    def forward_head(self, x: ms.Tensor, *, pre_logits: bool = False) -> ms.Tensor:
        """(B, T, D) -> (B, num_labels) float32, or the pooled (B, D) if `pre_logits`."""
        pooled = self.pool(x)  # (B, D)
        return pooled if pre_logits else self.head(pooled).astype(ms.float32)
