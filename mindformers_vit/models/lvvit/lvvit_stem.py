"""LV-ViT's stem: three convolutions at half the image's size, then one token a patch.

Legend: B batch, C channels, H, W image, S stem channels, P patch, N patches, D width.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import zeros_parameter
from mindformers_vit.models.layers.patch_embed import PatchProjection
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig

BATCH_NORM_EPS = 1e-5


class Conv(nn.Cell):
    """A convolution without bias, padded by half its kernel; `weight` (out, in, k, k)."""

    def __init__(
        self, channels: int, width: int, *, kernel: int, stride: int, compute_dtype: str
    ) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, channels, kernel, kernel))
        self.dtype = ms_dtype(compute_dtype)
        self.conv = ops.Conv2D(width, kernel, pad_mode="pad", pad=kernel // 2, stride=stride)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, in, H, W) -> (B, out, H', W') in `compute_dtype`."""
        return self.conv(x.astype(self.dtype), self.weight.astype(self.dtype))  # (B, out, H', W')


class ConvStem(nn.Cell):
    """Images to tokens; the last projection, 8x8 with stride 8 for P 16, is a matrix product."""

    def __init__(self, config: LVViTConfig) -> None:
        super().__init__()
        stem, dtype = config.stem_width, config.compute_dtype
        self.conv1 = Conv(config.num_channels, stem, kernel=7, stride=2, compute_dtype=dtype)
        self.bn1 = BatchNorm(stem, eps=BATCH_NORM_EPS)
        self.conv2 = Conv(stem, stem, kernel=3, stride=1, compute_dtype=dtype)
        self.bn2 = BatchNorm(stem, eps=BATCH_NORM_EPS)
        self.conv3 = Conv(stem, stem, kernel=3, stride=1, compute_dtype=dtype)
        self.bn3 = BatchNorm(stem, eps=BATCH_NORM_EPS)
        self.side = config.patch_size // 2
        self.proj = PatchProjection(stem, self.side, config.hidden_size, dtype)

    def construct(self, pixel_values: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> (B, N, D) float32, patches row by row."""
        x = self._normed(self.bn1, self.conv1(pixel_values))  # (B, H/2, W/2, S)
        x = self._normed(self.bn2, self.conv2(x.transpose(0, 3, 1, 2)))  # (B, H/2, W/2, S)
        x = self._normed(self.bn3, self.conv3(x.transpose(0, 3, 1, 2)))  # (B, H/2, W/2, S)
        b, height, width, channels = x.shape
        rows, columns = height // self.side, width // self.side
        x = x.reshape(b, rows, self.side, columns, self.side, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows * columns, -1)  # (B, N, P/2·P/2·S)
        return self.proj(x).astype(ms.float32)  # (B, N, D)

    def _normed(self, norm: nn.Cell, x: ms.Tensor) -> ms.Tensor:
        """relu(norm(x)) of (B, S, H, W), channels last: (B, H, W, S) float32."""
        return ops.relu(norm(x.transpose(0, 2, 3, 1)))
