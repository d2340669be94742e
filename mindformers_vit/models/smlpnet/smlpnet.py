"""sMLPNet: images without attention, rows and columns mixed apart.

Tang et al. 2022, arXiv 2109.05422, as in https://github.com/microsoft/SPACH (MIT). Everything is
channel-last here, so that most of it is matrix products.

Legend: B batch, C channels, H, W rows and columns of the grid, N = H·W, K blocks of all stages.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn

from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.layers.drop_path import DropPath
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import Linear
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.smlpnet import smlpnet_loading, smlpnet_params
from mindformers_vit.models.smlpnet.smlpnet_config import FAMILY, SMLPNetConfig
from mindformers_vit.models.smlpnet.smlpnet_layers import (
    ChannelMlp,
    Downsample,
    LocalMix,
    SparseMix,
    batch_norm,
)


class SMLPNetForImageClassification(PreTrainedModel):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`."""

    family = FAMILY
    parameter_specs = staticmethod(smlpnet_params.parameter_specs)
    loading_rules = staticmethod(smlpnet_loading.loading_rules)

    def __init__(self, config: SMLPNetConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.image_hw = config.image_hw
        self.starts = config.stage_starts
        self.num_layers = config.num_hidden_layers
        self.num_features = config.stage_widths[-1]
        self.to_patch_embedding = _embeddings(config)
        token_mix, channel_mix = [], []
        for block in range(self.num_layers):
            stage = config.stage_of(block)
            width, grid = config.stage_widths[stage], config.stage_grids[stage]
            norm = LayerNorm(width, eps=config.layer_norm_eps)
            mlp = ChannelMlp(width, config.mlp_ratio * width, config.compute_dtype)
            token_mix.append(nn.CellList([LocalMix(width, config), SparseMix(width, grid, config)]))
            channel_mix.append(nn.CellList([nn.Identity(), norm, mlp]))
        self.token_mix, self.channel_mix = nn.CellList(token_mix), nn.CellList(channel_mix)
        self.drop_path = DropPath(config.drop_path_rate, self.num_layers)
        self.batch_norm = batch_norm(self.num_features, config)
        head = Linear(self.num_features, config.num_labels, compute_dtype=config.compute_dtype)
        self.mlp_head = nn.CellList([head])
        self.init_weights(seed)

    def layer_id(self, name: str) -> int:
        return smlpnet_params.layer_id(name, self.config)

    def construct(self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None) -> ms.Tensor:
        """Classify images.

        Args:
            pixel_values: (B, C, H, W) normalised images of the size in the settings.
            drop_noise: (B, 2·K) uniform in [0, 1) for the drop paths of a training step; without
                it nothing is dropped.

        Returns:
            (B, num_labels) float32 logits.
        """
        return self.forward_head(self.forward_features(pixel_values, drop_noise))  # (B, num_labels)

    def forward_features(
        self, pixel_values: ms.Tensor, drop_noise: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(B, C, H, W) -> (B, N, C) of the last stage, before the last batch norm."""
        if tuple(pixel_values.shape[2:]) != self.image_hw:
            raise ValueError(
                "sMLPNet takes images of exactly its image_size: its row and column weights have "
                "the size of the grid"
            )
        x = pixel_values.transpose(0, 2, 3, 1)  # (B, H, W, C)
        factors = None if drop_noise is None else self.drop_path(drop_noise)  # (B, 2·K)
        for i in range(self.num_layers):
            if i in self.starts:
                x = self.to_patch_embedding[self.starts.index(i)][0](x)  # (B, H, W, C)
            branch = self.token_mix[i][1](self.token_mix[i][0](x))  # (B, H, W, C)
            x = x + self.kept(branch, factors, 2 * i)  # (B, H, W, C)
            branch = self.channel_mix[i][2](self.channel_mix[i][1](x))  # (B, H, W, C)
            x = x + self.kept(branch, factors, 2 * i + 1)  # (B, H, W, C)
        return x.reshape(x.shape[0], -1, self.num_features)  # (B, N, C)

    def kept(self, branch: ms.Tensor, factors: ms.Tensor | None, number: int) -> ms.Tensor:
        """What is added of a branch: (B, H, W, C) float32."""
        branch = branch.astype(ms.float32)  # (B, H, W, C)
        return branch if factors is None else branch * factors[:, number].reshape(-1, 1, 1, 1)

    def forward_head(self, x: ms.Tensor, *, pre_logits: bool = False) -> ms.Tensor:
        """(B, N, C) -> (B, num_labels) float32, or the pooled (B, C) if `pre_logits`."""
        pooled = self.batch_norm(x).mean(1)  # (B, C)
        return pooled if pre_logits else self.mlp_head[0](pooled).astype(ms.float32)


def _embeddings(config: SMLPNetConfig) -> nn.CellList:
    """The first takes pixels to patches, each other halves the grid and doubles the width."""
    dtype, channels, patch = ms_dtype(config.compute_dtype), config.num_channels, config.patch_size
    found = []
    for width in config.stage_widths:
        found.append(nn.CellList([Downsample(channels, patch, width, dtype)]))
        channels, patch = width, 2
    return nn.CellList(found)
