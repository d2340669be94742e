"""Masked autoencoder: hide most patches, encode the rest, predict the hidden pixels.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377. Written from
the paper's and the published files' facts.

Legend: B batch, C channels, H, W image, P patch, N patches, K visible patches, D encoder width,
E decoder width.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindformers_vit.models.layers.linear import Linear, zeros_parameter
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import patchify
from mindformers_vit.models.layers.patch_errors import PatchErrors
from mindformers_vit.models.mae import mae_loading, mae_params
from mindformers_vit.models.mae.mae_config import FAMILY, ViTMAEConfig
from mindformers_vit.models.transformer import Transformer, block_list


class ViTMAEForPreTraining(Transformer):
    """`construct(pixel_values, noise) -> (loss, pred, mask)`."""

    family = FAMILY
    parameter_specs = staticmethod(mae_params.parameter_specs)
    loading_rules = staticmethod(mae_loading.loading_rules)

    def __init__(self, config: ViTMAEConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.num_visible = config.num_visible
        dtype, tokens = config.compute_dtype, config.num_patches + 1

        width = config.hidden_size
        self.pos_embed = zeros_parameter((1, tokens, width), trainable=False)
        self.blocks = block_list(config)
        self.norm = LayerNorm(width, eps=config.layer_norm_eps)

        width = config.decoder_hidden_size
        self.decoder_embed = Linear(config.hidden_size, width, compute_dtype=dtype)
        self.mask_token = zeros_parameter((1, 1, width))
        self.decoder_pos_embed = zeros_parameter((1, tokens, width), trainable=False)
        self.decoder_blocks = block_list(config.decoder)
        self.decoder_norm = LayerNorm(width, eps=config.layer_norm_eps)
        self.decoder_pred = Linear(width, config.patch_pixels, compute_dtype=dtype)
        self.patch_errors = PatchErrors(config.patch_pixels, normalised=config.norm_pix_loss)
        self.init_weights(seed)

    def construct(
        self, pixel_values: ms.Tensor, noise: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """One pretraining pass.

        Args:
            pixel_values: (B, C, H, W) normalised images.
            noise: (B, N) uniform; the K patches with the smallest values stay visible.

        Returns:
            loss: scalar, mean squared error over the masked patches.
            pred: (B, N, P·P·C), pixels as (row, column, channel); of each patch normalised by
                its own mean and deviation if `norm_pix_loss`.
            mask: (B, N), 0 visible, 1 masked.
        """
        latent, mask, ids_restore = self.forward_encoder(pixel_values, noise)
        pred = self.forward_decoder(latent, ids_restore)
        return self.forward_loss(pixel_values, pred, mask), pred, mask

    def forward_encoder(
        self, pixel_values: ms.Tensor, noise: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """latent (B, K + 1, D) with the class token first, mask (B, N), ids_restore (B, N)."""
        patches = patchify(pixel_values, self.patch_size)  # (B, N, P·P·C)
        ids_shuffle = ops.argsort(noise)  # (B, N)
        ids_restore = ops.argsort(ids_shuffle.astype(ms.float32))  # (B, N)
        ids_keep = ids_shuffle[:, : self.num_visible]  # (B, K)
        mask = (ids_restore >= self.num_visible).astype(ms.float32)  # (B, N)

        x = self.patch_embed(take_rows(patches, ids_keep))  # (B, K, D)
        x = x + ops.gather(self.pos_embed[0, 1:], ids_keep, 0)  # (B, K, D)
        return self._encode(x), mask, ids_restore

    def forward_features(self, pixel_values: ms.Tensor) -> ms.Tensor:
        """Every patch visible: (B, C, H, W) -> (B, N + 1, D), normalised, class token first."""
        return self._encode(self.embed(pixel_values) + self.pos_embed[:, 1:])  # (B, N + 1, D)

    def _encode(self, x: ms.Tensor) -> ms.Tensor:
        x = self.with_token(self.cls_token + self.pos_embed[:, :1], x)  # (B, K + 1, D)
        return self.norm(self.run_blocks(x))  # (B, K + 1, D)

    def forward_decoder(self, latent: ms.Tensor, ids_restore: ms.Tensor) -> ms.Tensor:
        """latent (B, K + 1, D), ids_restore (B, N) -> pred (B, N, P·P·C) float32."""
        x = self.decoder_embed(latent).astype(ms.float32)  # (B, K + 1, E)
        b, n = ids_restore.shape
        masked = ops.tile(self.mask_token, (b, n + 1 - x.shape[1], 1))  # (B, N - K, E)
        patches = ops.cat((x[:, 1:], masked), 1)  # (B, N, E), visible first
        x = ops.cat((x[:, :1], take_rows(patches, ids_restore)), 1)  # (B, N + 1, E)
        x = x + self.decoder_pos_embed  # (B, N + 1, E)
        for block in self.decoder_blocks:
            x = block(x)  # (B, N + 1, E)
        pred = self.decoder_pred(self.decoder_norm(x))  # (B, N + 1, P·P·C)
        return pred[:, 1:].astype(ms.float32)  # (B, N, P·P·C)

    def forward_loss(self, pixel_values: ms.Tensor, pred: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
        """Mean squared error over the masked patches (B, N), of pred (B, N, P·P·C): scalar."""
        target = patchify(pixel_values.astype(ms.float32), self.patch_size)  # (B, N, P·P·C)
        error = self.patch_errors(pred, target)  # (B, N)
        return (error * mask).sum() / mask.sum()


def take_rows(x: ms.Tensor, ids: ms.Tensor) -> ms.Tensor:
    """x (B, N, F), ids (B, K) -> (B, K, F): row ids[b, k] of each x[b]."""
    b, n, features = x.shape
    offsets = ops.arange(0, b * n, n, dtype=ms.int32).reshape(-1, 1)  # (B, 1)
    flat_ids = (ids.astype(ms.int32) + offsets).reshape(-1)  # (B·K,)
    taken = ops.gather(x.reshape(b * n, features), flat_ids, 0)  # (B·K, F)
    return taken.reshape(b, ids.shape[1], features)  # (B, K, F)
