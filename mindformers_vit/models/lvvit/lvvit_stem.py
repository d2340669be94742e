"""LV-ViT's stem: three convolutions at half the image's size, then one token a patch.

Legend: B batch, C channels, H, W image, S stem channels, P patch, N patches, D width.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import zeros_parameter
from mindformers_vit.models.layers.patch_embed import PatchProjection
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig


class Unfold(nn.Cell):
    """Each place's neighbours along an axis beside each other: (..., C) -> (..., k·C).

    The gradient is written out: that of a slice with steps fails on CPU, and others are slow.
    """

    def __init__(self, kernel: int, stride: int, *, axis: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.axis = kernel, stride, axis

    def construct(self, x):
        axis, places = self.axis, (x.shape[self.axis] - 1) // self.stride + 1
        zeros = _zeros(x, axis, self.kernel // 2)
        x = ops.cat((zeros, x, zeros), axis)
        shifted = ()
        for first in range(self.kernel):
            last = first + self.stride * (places - 1) + 1
            if axis == 1:
                shifted += (x[:, first : last : self.stride],)
            else:
                shifted += (x[:, :, first : last : self.stride],)
        return ops.cat(shifted, 3)

    def bprop(self, x, out, dout):
        axis, stride, size = self.axis, self.stride, x.shape[self.axis]
        places = dout.shape[axis]
        groups = places + (self.kernel - 1) // stride  # of `stride` neighbours each
        channels = x.shape[3]
        phases = ()
        for phase in range(stride):
            total = 0.0
            for first in range(phase, self.kernel, stride):
                before = first // stride
                after = groups - places - before
                part = dout[..., first * channels : (first + 1) * channels]
                total = total + ops.cat(
                    (_zeros(part, axis, before), part, _zeros(part, axis, after)), axis
                )
            phases += (total.expand_dims(axis + 1),)
        dx = ops.cat(phases, axis + 1)
        dx = dx.reshape(*x.shape[:axis], groups * stride, *x.shape[axis + 1 :])
        first, last = self.kernel // 2, self.kernel // 2 + size
        return (dx[:, first:last] if axis == 1 else dx[:, :, first:last],)


class Conv(nn.Cell):
    """A convolution without bias, padded by half its odd kernel; `weight` (out, in, k, k).

    On CPU as a matrix product: MindSpore's own takes 4.8 s forward and back where this takes
    0.07 s (50 images of 32x32, 16 channels, 3x3, 2 cores).
    """

    def __init__(
        self, channels: int, width: int, *, kernel: int, stride: int, compute_dtype: str
    ) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, channels, kernel, kernel))
        self.kernel, self.stride, self.width = kernel, stride, width
        self.dtype = ms_dtype(compute_dtype)
        self.on_cpu = compat.device() == "CPU"
        self.conv = ops.Conv2D(width, kernel, pad_mode="pad", pad=kernel // 2, stride=stride)
        self.unfold1 = Unfold(kernel, stride, axis=1)
        self.unfold2 = Unfold(kernel, stride, axis=2)
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, in) -> (B, H', W', out) in `compute_dtype`."""
        x, weight = x.astype(self.dtype), self.weight.astype(self.dtype)
        if not self.on_cpu:
            return self.conv(x.transpose(0, 3, 1, 2), weight).transpose(0, 2, 3, 1)
        x = self.unfold2(self.unfold1(x))  # (B, H', W', k·k·in)
        weight = weight.transpose(0, 3, 2, 1).reshape(self.width, -1)  # (out, k·k·in)
        y = self.matmul(x.reshape(-1, x.shape[3]), weight)  # (B·H'·W', out)
        return y.reshape(*x.shape[:3], self.width)  # (B, H', W', out)


def _zeros(x: ms.Tensor, axis: int, size: int) -> ms.Tensor:
    """Zeros of the shape of x, but for `size` along an axis."""
    return ops.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


class ConvStem(nn.Cell):
    """Images to tokens; the last projection, 8x8 with stride 8 for P 16, is a matrix product."""

    def __init__(self, config: LVViTConfig) -> None:
        super().__init__()
        stem, dtype = config.stem_width, config.compute_dtype
        self.conv1 = Conv(config.num_channels, stem, kernel=7, stride=2, compute_dtype=dtype)
        self.bn1 = BatchNorm(stem)
        self.conv2 = Conv(stem, stem, kernel=3, stride=1, compute_dtype=dtype)
        self.bn2 = BatchNorm(stem)
        self.conv3 = Conv(stem, stem, kernel=3, stride=1, compute_dtype=dtype)
        self.bn3 = BatchNorm(stem)
        self.side = config.patch_size // 2
        self.proj = PatchProjection(stem, self.side, config.hidden_size, dtype)

    def construct(self, pixel_values: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> (B, N, D) float32, patches row by row."""
        x = pixel_values.transpose(0, 2, 3, 1)  # (B, H, W, C)
        x = ops.relu(self.bn1(self.conv1(x)))  # (B, H/2, W/2, S)
        x = ops.relu(self.bn2(self.conv2(x)))  # (B, H/2, W/2, S)
        x = ops.relu(self.bn3(self.conv3(x)))  # (B, H/2, W/2, S)
        b, height, width, channels = x.shape
        rows, columns = height // self.side, width // self.side
        x = x.reshape(b, rows, self.side, columns, self.side, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows * columns, -1)  # (B, N, P/2·P/2·S)
        return self.proj(x).astype(ms.float32)  # (B, N, D)
