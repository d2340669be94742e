"""sMLPNet: images without attention, rows and columns mixed apart.

Tang et al. 2022, arXiv 2109.05422, as in https://github.com/microsoft/SPACH (MIT). Everything is
channel-last here, so that most of it is matrix products; the weights keep the layout of
convolutions.

Legend: B batch, C channels, H, W rows and columns of the grid, N = H·W, K blocks of all stages.
"""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.drop_path import DropPath, drop_path_rates
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import BiasAdd, Linear, zeros_parameter
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.parameters import ParamSpecs
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.smlpnet import smlpnet_loading, smlpnet_params
from mindformers_vit.models.smlpnet.smlpnet_config import FAMILY, SMLPNetConfig


class PointwiseConv(nn.Cell):
    """A 1x1 convolution with `weight` (out, in, 1, 1) over the last axis."""

    def __init__(self, channels: int, width: int, dtype: ms.Type, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, channels, 1, 1))
        self.bias = zeros_parameter((width,)) if bias else None
        self.has_bias = bias
        self.channels = channels
        self.width = width
        self.dtype = dtype
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = BiasAdd()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out) in `dtype`."""
        flat = x.reshape(-1, self.channels).astype(self.dtype)  # (M, in)
        weight = self.weight.reshape(self.width, self.channels)  # (out, in)
        y = self.matmul(flat, weight.astype(self.dtype))  # (M, out)
        if self.has_bias:
            y = self.bias_add(y, self.bias.astype(self.dtype))  # (M, out)
        return y.reshape(*x.shape[:-1], self.width)  # (..., out)


class Downsample(nn.Cell):
    """A convolution whose stride P is its kernel, without bias: P·P pixels become one."""

    def __init__(self, channels: int, patch_size: int, width: int, dtype: ms.Type) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, channels, patch_size, patch_size))
        self.patch_size = patch_size
        self.width = width
        self.dtype = dtype
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, P·H, P·W, in) -> (B, H, W, out) float32."""
        p = self.patch_size
        b, height, width, c = x.shape
        h, w = height // p, width // p
        x = x.reshape(b, h, p, w, p, c).transpose(0, 1, 3, 2, 4, 5)  # (B, H, W, P, P, in)
        weight = self.weight.transpose(0, 2, 3, 1).reshape(self.width, p * p * c)  # (out, P·P·in)
        flat = x.reshape(b * h * w, p * p * c).astype(self.dtype)  # (B·N, P·P·in)
        y = self.matmul(flat, weight.astype(self.dtype))  # (B·N, out)
        return y.reshape(b, h, w, self.width).astype(ms.float32)  # (B, H, W, out)


class DepthwiseConv(nn.Cell):
    """3x3, padding 1, without bias; `weight` (C, 1, 3, 3).

    MindSpore's own convolution: forward and backward on CPU 58 ms at (50, 16, 16, 16), where a sum
    of nine shifted products takes 170; as fast at (8, 56, 56, 80).
    """

    def __init__(self, width: int, dtype: ms.Type) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, 1, 3, 3))
        self.dtype = dtype
        self.conv = ops.Conv2D(width, 3, pad_mode="pad", pad=1, group=width)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, H, W, C) in `dtype`."""
        x = x.transpose(0, 3, 1, 2).astype(self.dtype)  # (B, C, H, W)
        return self.conv(x, self.weight.astype(self.dtype)).transpose(0, 2, 3, 1)  # (B, H, W, C)


class ConvMerge(nn.Cell):
    """Batch norm, GELU, depthwise 3x3 convolution."""

    def __init__(self, width: int, config: SMLPNetConfig) -> None:
        super().__init__()
        self.BN = _batch_norm(width, config)
        self.act = Gelu()
        self.Conv = DepthwiseConv(width, ms_dtype(config.compute_dtype))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, H, W, C) in the compute type."""
        return self.Conv(self.act(self.BN(x)))


class LocalMix(nn.Cell):
    """`ConvMerge` under the name that the weights have."""

    def __init__(self, width: int, config: SMLPNetConfig) -> None:
        super().__init__()
        self.conv_merge = ConvMerge(width, config)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.conv_merge(x)


class SparseMix(nn.Cell):
    """z = gelu(bn(x)); fuse([z, z mixed within its row, z mixed within its column])."""

    def __init__(self, width: int, grid: tuple[int, int], config: SMLPNetConfig) -> None:
        super().__init__()
        rows, columns = grid
        self.dtype = ms_dtype(config.compute_dtype)
        self.BN = _batch_norm(width, config)
        self.act = Gelu()
        self.proj_h = PointwiseConv(columns, columns, self.dtype, bias=True)  # along the width
        self.proh_w = PointwiseConv(rows, rows, self.dtype, bias=True)  # along the height
        self.fuse = PointwiseConv(3 * width, width, self.dtype)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, H, W, C) in the compute type."""
        z = self.act(self.BN(x)).astype(self.dtype)  # (B, H, W, C)
        a = self.proj_h(z.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)  # (B, H, W, C)
        b = self.proh_w(z.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # (B, H, W, C)
        return self.fuse(ops.cat((z, a, b), -1))  # (B, H, W, C)


class ChannelMlp(nn.Cell):
    """net.3(gelu(net.0(x))); the numbers are those of the reference's list of layers."""

    def __init__(self, width: int, hidden: int, compute_dtype: str) -> None:
        super().__init__()
        layers = [Linear(width, hidden, compute_dtype=compute_dtype), Gelu(), nn.Identity()]
        self.net = nn.CellList([*layers, Linear(hidden, width, compute_dtype=compute_dtype)])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., C) -> (..., C) in the compute type."""
        return self.net[3](self.net[1](self.net[0](x)))  # (..., C)


class SMLPNetForImageClassification(PreTrainedModel):
    """`construct(pixel_values, drop_noise=None) -> logits (B, num_labels)`.

    Args:
        config: its settings.
        seed: of the initial weights.
    """

    family = FAMILY

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
        rates = drop_path_rates(config.drop_path_rate, self.num_layers)
        self.drop_paths = nn.CellList([DropPath(rate) for rate in rates])
        self.batch_norm = _batch_norm(self.num_features, config)
        head = Linear(self.num_features, config.num_labels, compute_dtype=config.compute_dtype)
        self.mlp_head = nn.CellList([head])
        self.init_weights(seed)

    @staticmethod
    def parameter_specs(config: SMLPNetConfig) -> ParamSpecs:
        return smlpnet_params.parameter_specs(config)

    @staticmethod
    def loading_rules(
        config: SMLPNetConfig, loaded: Mapping[str, Array], *, new_parts: bool
    ) -> LoadingRules:
        return smlpnet_loading.loading_rules(config, loaded, new_parts=new_parts)

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
        for i in range(self.num_layers):
            if i in self.starts:
                x = self.to_patch_embedding[self.starts.index(i)][0](x)  # (B, H, W, C)
            branch = self.token_mix[i][1](self.token_mix[i][0](x))  # (B, H, W, C)
            x = self.add(i, x, branch, None if drop_noise is None else drop_noise[:, 2 * i])
            branch = self.channel_mix[i][2](self.channel_mix[i][1](x))  # (B, H, W, C)
            x = self.add(i, x, branch, None if drop_noise is None else drop_noise[:, 2 * i + 1])
        return x.reshape(x.shape[0], -1, self.num_features)  # (B, N, C)

    def add(self, i: int, x: ms.Tensor, branch: ms.Tensor, noise: ms.Tensor | None) -> ms.Tensor:
        """x plus a branch of block i, dropped by noise (B,): (B, H, W, C) float32."""
        branch = branch.astype(ms.float32)  # (B, H, W, C)
        if noise is not None:
            flat = branch.reshape(branch.shape[0], -1, branch.shape[3])  # (B, N, C)
            branch = self.drop_paths[i](flat, noise).reshape(x.shape)  # (B, H, W, C)
        return x + branch  # (B, H, W, C)

    def forward_head(self, x: ms.Tensor, *, pre_logits: bool = False) -> ms.Tensor:
        """(B, N, C) -> (B, num_labels) float32, or the pooled (B, C) if `pre_logits`."""
        pooled = self.batch_norm(x).mean(1)  # (B, C)
        return pooled if pre_logits else self.mlp_head[0](pooled).astype(ms.float32)


def _batch_norm(width: int, config: SMLPNetConfig) -> BatchNorm:
    return BatchNorm(width, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


def _embeddings(config: SMLPNetConfig) -> nn.CellList:
    """The first takes pixels to patches, each other halves the grid and doubles the width."""
    dtype, channels, patch = ms_dtype(config.compute_dtype), config.num_channels, config.patch_size
    found = []
    for width in config.stage_widths:
        found.append(nn.CellList([Downsample(channels, patch, width, dtype)]))
        channels, patch = width, 2
    return nn.CellList(found)
