"""BEiT classifier (Bao et al. 2022, arXiv 2106.08254): a ViT with relative positions, layer scale.

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks, h heads.
"""

from __future__ import annotations

from functools import partial

import mindspore as ms
import numpy as np

from mindformers_vit.models.beit import beit_loading, beit_params
from mindformers_vit.models.beit.beit_attention import BeitAttention, SharedRelativePositionBias
from mindformers_vit.models.beit.beit_config import FAMILY, BeitConfig
from mindformers_vit.models.beit.relative_position import relative_position_index, table_rows
from mindformers_vit.models.layers.layer_scale import ScaleChannels
from mindformers_vit.models.layers.linear import zeros_parameter
from mindformers_vit.models.transformer import Block, TokenClassifier, block_list


class BeitBlock(Block):
    """A `Block` whose branches are scaled by gamma_1 and gamma_2 before they are added.

    Args:
        config: of the network.
        index: see `beit_attention.RelativePositionBias`.
    """

    def __init__(self, config: BeitConfig, *, index: ms.Tensor) -> None:
        width = config.hidden_size
        attention = BeitAttention(
            width,
            num_heads=config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            table_rows=table_rows(config.grid) if config.use_relative_position_bias else 0,
            index=index,
            compute_dtype=config.compute_dtype,
        )
        super().__init__(config, attention)
        self.has_scale = config.layer_scale_init_value > 0
        self.gamma_1 = zeros_parameter((width,)) if self.has_scale else None
        self.gamma_2 = zeros_parameter((width,)) if self.has_scale else None
        self.scale = ScaleChannels()

    def construct(
        self,
        x: ms.Tensor,
        factors: ms.Tensor | None = None,
        shared_bias: ms.Tensor | None = None,
    ) -> ms.Tensor:
        """x (B, T, D), factors (B, 2) or None, shared_bias (h, T, T) or None -> (B, T, D)."""
        branch = self.scaled(self.attn(self.norm1(x), shared_bias), self.gamma_1)  # (B, T, D)
        x = x + self.kept(branch, factors, 0)  # (B, T, D)
        branch = self.scaled(self.mlp(self.norm2(x)), self.gamma_2)  # (B, T, D)
        return x + self.kept(branch, factors, 1)  # (B, T, D)

    def scaled(self, branch: ms.Tensor, gamma: ms.Tensor | None) -> ms.Tensor:
        """gamma (D,) times the branch (B, T, D), in float32."""
        branch = branch.astype(ms.float32)  # (B, T, D)
        if not self.has_scale:
            return branch
        return self.scale(branch.reshape(-1, branch.shape[-1]), gamma).reshape(branch.shape)


class BeitForImageClassification(TokenClassifier):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`."""

    family = FAMILY
    parameter_specs = staticmethod(beit_params.parameter_specs)
    loading_rules = staticmethod(beit_loading.loading_rules)

    def __init__(self, config: BeitConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        index = ms.Tensor(relative_position_index(config.grid).astype(np.int32))  # (T, T)
        self.has_shared_bias = config.use_shared_relative_position_bias
        if self.has_shared_bias:
            rows, heads = table_rows(config.grid), config.num_attention_heads
            self.rel_pos_bias = SharedRelativePositionBias(rows, heads, index)
        self.blocks = block_list(config, partial(BeitBlock, index=index))
        self.add_head(config)
        self.init_weights(seed)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token"}

    def forward_features(
        self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(B, C, H, W) -> (B, T, D), class token first; normalised unless mean pooling is on."""
        x = self.with_token(self.cls_token, self.embed(pixel_values))  # (B, T, D)
        bias = self.rel_pos_bias() if self.has_shared_bias else None  # (h, T, T)
        x = self.run_blocks(x, drop_noise, bias)  # (B, T, D)
        return x if self.mean_pooling else self.norm(x)  # (B, T, D)
