"""Images to patches and patches to tokens, without a convolution.

MindSpore's 16x16 convolution with stride 16 takes 2.6 s on CPU for a batch of 8; reshaping and a
matrix product 10 ms. The weight is stored in convolution layout, so files keep their shape.

Legend: B batch, C channels, H, W image, P patch, N = (H/P)·(W/P) patches, D width.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import nn

from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.linear import Multiply, zeros_parameter


def patchify(images: Any, patch_size: int) -> Any:
    """(B, C, H, W) -> (B, N, P·P·C): patches row by row, pixels as (row, column, channel).

    Of a tensor or an array.
    """
    b, c, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(b, c, rows, patch_size, columns, patch_size)  # (B, C, H/P, P, W/P, P)
    x = x.transpose(0, 2, 4, 3, 5, 1)  # (B, H/P, W/P, P, P, C)
    return x.reshape(b, rows * columns, patch_size * patch_size * c)  # (B, N, P·P·C)


class PatchProjection(nn.Cell):
    """The projection of flattened patches; `weight` (D, C, P, P) and `bias` (D,)."""

    def __init__(self, channels: int, patch_size: int, width: int, compute_dtype: str) -> None:
        super().__init__()
        self.weight = zeros_parameter((width, channels, patch_size, patch_size))
        self.bias = zeros_parameter((width,))
        self.width = width
        self.multiply = Multiply(bias=True, dtype=ms_dtype(compute_dtype))

    def construct(self, patches: ms.Tensor) -> ms.Tensor:
        """(B, N, P·P·C) -> (B, N, D)."""
        b, n, pixels = patches.shape
        weight = self.weight.transpose(0, 2, 3, 1).reshape(self.width, pixels)  # (D, P·P·C)
        y = self.multiply(patches.reshape(b * n, pixels), weight, self.bias)  # (B·N, D)
        return y.reshape(b, n, self.width)  # (B, N, D)


class PatchEmbed(nn.Cell):
    """Patches as `patchify` makes them to tokens; any subset of an image's patches will do.

    Args:
        channels: C of the images.
        patch_size: P.
        width: D.
        compute_dtype: the type of the matrix product.
    """

    def __init__(
        self, channels: int, patch_size: int, width: int, *, compute_dtype: str = "float32"
    ) -> None:
        super().__init__()
        self.proj = PatchProjection(channels, patch_size, width, compute_dtype)

    def construct(self, patches: ms.Tensor) -> ms.Tensor:
        """(B, N, P·P·C) -> (B, N, D) float32."""
        return self.proj(patches).astype(ms.float32)  # (B, N, D)
