"""The parts of an sMLPNet's block, channel-last; the weights keep the layout of convolutions.

Tang et al. 2022, arXiv 2109.05422, as in https://github.com/microsoft/SPACH (MIT).

Legend: B batch, C channels, H, W rows and columns of the grid, N = H·W, M rows of a matrix.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import BiasAdd, Linear, zeros_parameter
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig


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
        self.BN = batch_norm(width, config)
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
        self.BN = batch_norm(width, config)
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


def batch_norm(width: int, config: SMLPNetConfig) -> BatchNorm:
    """With the momentum and epsilon of the settings."""
    return BatchNorm(width, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
