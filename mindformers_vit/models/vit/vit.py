"""Vision transformer classifier as MAE fine-tunes it.

Dosovitskiy et al. 2021, arXiv 2010.11929; pooling and recipe of He et al. 2022, arXiv 2111.06377.

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.linear import zeros_parameter
from mindformers_vit.models.transformer import TokenClassifier, block_list
from mindformers_vit.models.vit import vit_loading, vit_params
from mindformers_vit.models.vit.vit_config import FAMILY, ViTConfig

HEAD_NORM_EPS = 1e-6


class ViTForImageClassification(TokenClassifier):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`.

    With `linear_probe` all but the head is frozen, and a batch norm without gamma and beta
    (`head_norm`) stands before it, as in appendix A.1 of the MAE paper.
    """

    family = FAMILY
    parameter_specs = staticmethod(vit_params.parameter_specs)
    loading_rules = staticmethod(vit_loading.loading_rules)

    def __init__(self, config: ViTConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.pos_embed = zeros_parameter((1, config.num_patches + 1, config.hidden_size))
        self.blocks = block_list(config)
        self.add_head(config)
        self.linear_probe = config.linear_probe
        if self.linear_probe:
            self.head_norm = BatchNorm(config.hidden_size, eps=HEAD_NORM_EPS, affine=False)
        self.init_weights(seed)

    def no_weight_decay(self) -> set[str]:
        return set() if self.linear_probe else {"pos_embed", "cls_token"}

    def forward_features(
        self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(B, C, H, W) -> (B, T, D), class token first; normalised unless mean pooling is on."""
        x = self.with_token(self.cls_token, self.embed(pixel_values))  # (B, T, D)
        x = self.run_blocks(x + self.pos_embed, drop_noise)  # (B, T, D)
        return x if self.mean_pooling else self.norm(x)  # (B, T, D)

    def pool(self, x: ms.Tensor) -> ms.Tensor:
        """(B, T, D) -> (B, D); behind the frozen encoder normalised over the batch."""
        pooled = super().pool(x)  # (B, D)
        return self.head_norm(ops.stop_gradient(pooled)) if self.linear_probe else pooled
