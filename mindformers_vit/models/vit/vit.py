"""Vision transformer classifier as MAE fine-tunes it.

Dosovitskiy et al. 2021, arXiv 2010.11929; pooling and recipe of He et al. 2022, arXiv 2111.06377.

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.block import block_list
from mindformers_vit.models.layers.linear import Linear, zeros_parameter
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import PatchEmbed, patchify
from mindformers_vit.models.vit import vit_loading, vit_params
from mindformers_vit.models.vit.vit_config import FAMILY, ViTConfig

HEAD_NORM_EPS = 1e-6


class ViTForImageClassification(PreTrainedModel):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`.

    Mean pooling: mean over the patches, then `fc_norm`. Otherwise: `norm`, then the class token.
    With `linear_probe` all that is frozen, and a batch norm without gamma and beta (`head_norm`)
    stands before the head, as in appendix A.1 of the MAE paper.

    Args:
        config: its settings.
        seed: of the initial weights.
    """

    family = FAMILY
    parameter_specs = staticmethod(vit_params.parameter_specs)
    loading_rules = staticmethod(vit_loading.loading_rules)

    def __init__(self, config: ViTConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        width = config.hidden_size
        dtype = config.compute_dtype
        self.patch_size = config.patch_size
        self.mean_pooling = config.use_mean_pooling
        self.num_features = width
        self.num_layers = config.num_hidden_layers

        self.patch_embed = PatchEmbed(
            config.num_channels, config.patch_size, width, compute_dtype=dtype
        )
        self.cls_token = zeros_parameter((1, 1, width))
        self.pos_embed = zeros_parameter((1, config.num_patches + 1, width))
        self.blocks = block_list(
            config.num_hidden_layers,
            width,
            num_heads=config.num_attention_heads,
            hidden=config.intermediate_size,
            eps=config.layer_norm_eps,
            qkv_bias=config.qkv_bias,
            drop_path_rate=config.drop_path_rate,
            compute_dtype=dtype,
        )
        norm = LayerNorm(width, eps=config.layer_norm_eps)
        if self.mean_pooling:
            self.fc_norm = norm
        else:
            self.norm = norm
        self.linear_probe = config.linear_probe
        if self.linear_probe:
            self.head_norm = BatchNorm(width, eps=HEAD_NORM_EPS, affine=False)
        self.head = Linear(width, config.num_labels, compute_dtype=dtype)
        self.init_weights(seed)

    def no_weight_decay(self) -> set[str]:
        return set() if self.linear_probe else set(vit_params.NO_WEIGHT_DECAY)

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
        x = x + self.pos_embed  # (B, T, D)
        for i, block in enumerate(self.blocks):
            if drop_noise is None:
                x = block(x)  # (B, T, D)
            else:
                x = block(x, drop_noise[:, 2 * i : 2 * i + 2])  # (B, T, D)
        return x if self.mean_pooling else self.norm(x)  # (B, T, D)

    def forward_head(self, x: ms.Tensor, *, pre_logits: bool = False) -> ms.Tensor:
        """(B, T, D) -> (B, num_labels) float32, or the pooled (B, D) if `pre_logits`."""
        if self.mean_pooling:
            pooled = self.fc_norm(x[:, 1:].mean(1))  # (B, D)
        else:
            pooled = x[:, 0]  # (B, D)
        if self.linear_probe:
            pooled = self.head_norm(ops.stop_gradient(pooled))  # (B, D)
        return pooled if pre_logits else self.head(pooled).astype(ms.float32)
