"""BEiT classifier (Bao et al. 2022, arXiv 2106.08254): a ViT with relative positions, layer scale.

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks, h heads.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.beit import beit_loading, beit_params
from mindformers_vit.models.beit.beit_attention import BeitAttention, SharedRelativePositionBias
from mindformers_vit.models.beit.beit_config import FAMILY, BeitConfig
from mindformers_vit.models.beit.relative_position import relative_position_index, table_rows
from mindformers_vit.models.layers.drop_path import DropPath, drop_path_rates
from mindformers_vit.models.layers.layer_scale import ScaleChannels
from mindformers_vit.models.layers.linear import Linear, zeros_parameter
from mindformers_vit.models.layers.mlp import Mlp
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import PatchEmbed, patchify


class BeitBlock(nn.Cell):
    """x += drop(gamma_1 · attn(norm1(x))); x += drop(gamma_2 · mlp(norm2(x))).

    The residual stream is float32.

    Args:
        config: of the network.
        drop_path_rate: probability of dropping each of the two branches of a sample.
        index: see `beit_attention.RelativePositionBias`.
    """

    def __init__(self, config: BeitConfig, drop_path_rate: float, index: ms.Tensor) -> None:
        super().__init__()
        width, dtype = config.hidden_size, config.compute_dtype
        self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = BeitAttention(
            width,
            num_heads=config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            table_rows=table_rows(config.grid) if config.use_relative_position_bias else 0,
            index=index,
            compute_dtype=dtype,
        )
        self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(width, config.intermediate_size, compute_dtype=dtype)
        self.has_scale = config.layer_scale_init_value > 0
        self.gamma_1 = zeros_parameter((width,)) if self.has_scale else None
        self.gamma_2 = zeros_parameter((width,)) if self.has_scale else None
        self.scale = ScaleChannels()
        self.drop_path = DropPath(drop_path_rate)

    def construct(
        self,
        x: ms.Tensor,
        noise: ms.Tensor | None = None,
        shared_bias: ms.Tensor | None = None,
    ) -> ms.Tensor:
        """x (B, T, D), noise (B, 2) or None, shared_bias (h, T, T) or None -> (B, T, D)."""
        branch = self.scaled(self.attn(self.norm1(x), shared_bias), self.gamma_1)  # (B, T, D)
        if noise is not None:
            branch = self.drop_path(branch, noise[:, 0])  # (B, T, D)
        x = x + branch  # (B, T, D)
        branch = self.scaled(self.mlp(self.norm2(x)), self.gamma_2)  # (B, T, D)
        if noise is not None:
            branch = self.drop_path(branch, noise[:, 1])  # (B, T, D)
        return x + branch  # (B, T, D)

    def scaled(self, branch: ms.Tensor, gamma: ms.Tensor | None) -> ms.Tensor:
        """gamma (D,) times the branch (B, T, D), in float32."""
        branch = branch.astype(ms.float32)  # (B, T, D)
        if not self.has_scale:
            return branch
        return self.scale(branch.reshape(-1, branch.shape[-1]), gamma).reshape(branch.shape)


class BeitForImageClassification(PreTrainedModel):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`.

    Mean pooling: mean over the patches, then `fc_norm`. Otherwise: `norm`, then the class token.

    Args:
        config: its settings.
        seed: of the initial weights.
    """

    family = FAMILY
    parameter_specs = staticmethod(beit_params.parameter_specs)
    loading_rules = staticmethod(beit_loading.loading_rules)

    def __init__(self, config: BeitConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        width, dtype = config.hidden_size, config.compute_dtype
        self.patch_size = config.patch_size
        self.mean_pooling = config.use_mean_pooling
        self.num_features = width
        self.num_layers = config.num_hidden_layers

        self.patch_embed = PatchEmbed(
            config.num_channels, config.patch_size, width, compute_dtype=dtype
        )
        self.cls_token = zeros_parameter((1, 1, width))
        index = ms.Tensor(relative_position_index(config.grid).astype(np.int32))  # (T, T)
        self.has_shared_bias = config.use_shared_relative_position_bias
        if self.has_shared_bias:
            rows, heads = table_rows(config.grid), config.num_attention_heads
            self.rel_pos_bias = SharedRelativePositionBias(rows, heads, index)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.blocks = nn.CellList([BeitBlock(config, rate, index) for rate in rates])
        norm = LayerNorm(width, eps=config.layer_norm_eps)
        if self.mean_pooling:
            self.fc_norm = norm
        else:
            self.norm = norm
        self.head = Linear(width, config.num_labels, compute_dtype=dtype)
        self.init_weights(seed)

    def no_weight_decay(self) -> set[str]:
        return set(beit_params.NO_WEIGHT_DECAY)

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
        x = self.patch_embed(patchify(pixel_values, self.patch_size))  # (B, N, D)
        x = ops.cat((ops.tile(self.cls_token, (x.shape[0], 1, 1)), x), 1)  # (B, T, D)
        bias = self.rel_pos_bias() if self.has_shared_bias else None  # (h, T, T)
        for i, block in enumerate(self.blocks):
            if drop_noise is None:
                x = block(x, None, bias)  # (B, T, D)
            else:
                x = block(x, drop_noise[:, 2 * i : 2 * i + 2], bias)  # (B, T, D)
        return x if self.mean_pooling else self.norm(x)  # (B, T, D)

    def forward_head(self, x: ms.Tensor, *, pre_logits: bool = False) -> ms.Tensor:
        """(B, T, D) -> (B, num_labels) float32, or the pooled (B, D) if `pre_logits`."""
        if self.mean_pooling:
            pooled = self.fc_norm(x[:, 1:].mean(1))  # (B, D)
        else:
            pooled = x[:, 0]  # (B, D)
        return pooled if pre_logits else self.head(pooled).astype(ms.float32)
