"""LV-ViT: a vision transformer trained on the labels of all its tokens.

Jiang et al. 2021, "All Tokens Matter: Token Labeling for Training Better Vision Transformers",
arXiv 2104.10858; reference https://github.com/zihangJiang/TokenLabeling (Apache-2.0).

Legend: B batch, C channels, H, W image, N patches, T = N + 1 tokens, D width, L blocks,
K = num_labels.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindformers_vit.models.layers.linear import Linear, zeros_parameter
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.lvvit import lvvit_loading, lvvit_params
from mindformers_vit.models.lvvit.lvvit_config import FAMILY, LVViTConfig
from mindformers_vit.models.lvvit.lvvit_stem import ConvStem
from mindformers_vit.models.lvvit.lvvit_training import TokenLabelForward
from mindformers_vit.models.lvvit.mix_token import box_mask, mix_with_partner
from mindformers_vit.models.transformer import Block, Transformer, block_list

AUX_SHARE = 0.5  # of the strongest token in the logits of evaluation


class SkipBlock(Block):
    """A `Block` whose branches are divided by `skip_lam` before they are added."""

    def __init__(self, config: LVViTConfig) -> None:
        super().__init__(config)
        self.skip_lam = config.skip_lam

    def kept(self, branch: ms.Tensor, factors: ms.Tensor | None, number: int) -> ms.Tensor:
        """What is added of branch 0 or 1: (B, T, D) float32."""
        return super().kept(branch, factors, number) / self.skip_lam


class LVViTForImageClassification(Transformer):
    """`construct(pixel_values, drop_noise=None, mix_box=None)`.

    In evaluation the logits (B, K): the class token's + 0.5 · the largest of all other tokens'.
    In training (`set_train(True)`) both apart: (B, K) and (B, N, K).
    """

    family = FAMILY
    parameter_specs = staticmethod(lvvit_params.parameter_specs)
    loading_rules = staticmethod(lvvit_loading.loading_rules)
    training_cell = TokenLabelForward

    def __init__(self, config: LVViTConfig, *, seed: int = 0) -> None:
        super().__init__(config, ConvStem(config))
        width, dtype = config.hidden_size, config.compute_dtype
        self.grid = config.grid
        self.pos_embed = zeros_parameter((1, config.num_patches + 1, width))
        self.blocks = block_list(config, SkipBlock)
        self.norm = LayerNorm(width, eps=config.layer_norm_eps)
        self.head = Linear(width, config.num_labels, compute_dtype=dtype)
        self.aux_head = Linear(width, config.num_labels, compute_dtype=dtype)
        self.init_weights(seed)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def construct(
        self,
        pixel_values: ms.Tensor,
        drop_noise: ms.Tensor | None = None,
        mix_box: ms.Tensor | None = None,
    ) -> ms.Tensor | tuple[ms.Tensor, ms.Tensor]:
        """Classify images.

        Args:
            pixel_values: (B, C, H, W) normalised images.
            drop_noise: (B, 2·L) uniform in [0, 1) for the drop paths of a training step; without
                it nothing is dropped.
            mix_box: (1 or B, 4) first row, first column, row after the last, column after the
                last of the tokens that come from image B-1-i; without it nothing is mixed.

        Returns:
            (B, K) float32 logits; in training the class token's, and the others' (B, N, K) with
            those in the box back at the image they belong to.
        """
        x = self.forward_features(pixel_values, drop_noise, mix_box)  # (B, T, D)
        x_cls, x_aux = self.forward_heads(x)  # (B, K), (B, N, K)
        if not self.training:
            return x_cls + AUX_SHARE * ops.amax(x_aux, 1)  # (B, K)
        if mix_box is not None:
            x_aux = mix_with_partner(x_aux, box_mask(mix_box, self.grid))  # (B, N, K)
        return x_cls, x_aux

    def forward_features(
        self,
        pixel_values: ms.Tensor,
        drop_noise: ms.Tensor | None = None,
        mix_box: ms.Tensor | None = None,
    ) -> ms.Tensor:
        """(B, C, H, W) -> (B, T, D) normalised tokens, class token first."""
        x = self.patch_embed(pixel_values)  # (B, N, D)
        if mix_box is not None:
            x = mix_with_partner(x, box_mask(mix_box, self.grid))  # (B, N, D)
        x = self.with_token(self.cls_token, x) + self.pos_embed  # (B, T, D)
        return self.norm(self.run_blocks(x, drop_noise))  # (B, T, D)

    def forward_heads(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, T, D) -> (B, K) of the class token and (B, N, K) of the others, float32."""
        return self.head(x[:, 0]).astype(ms.float32), self.aux_head(x[:, 1:]).astype(ms.float32)
