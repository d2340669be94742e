"""How far predicted patches are from the image's (He et al. 2022, arXiv 2111.06377, section 3)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindformers_vit.kernels import cells

EPS = 1e-6  # added to the variance of a patch, which is the unbiased one


class PatchErrors(nn.Cell):
    """The mean squared error of each patch.

    Args:
        pixels: F, numbers in a patch.
        normalised: the target is each patch less its mean, by its deviation.
    """

    def __init__(self, pixels: int, *, normalised: bool) -> None:
        super().__init__()
        self.pixels = pixels
        self.normalised = normalised
        self.kernel = cells.made(cells.RowErrors)
        self.has_kernel = self.kernel is not None
        # (x - mean) / sqrt(v F / (F - 1) + eps), v the biased variance that a layer norm takes
        share = (pixels - 1) / pixels
        self.norm_kernel = cells.made(cells.LayerNorm, EPS * share)
        self.gamma = ms.Tensor(np.full(pixels, share**0.5, np.float32))
        self.beta = ms.Tensor(np.zeros(pixels, np.float32))

    def construct(self, pred: ms.Tensor, target: ms.Tensor) -> ms.Tensor:
        """pred, target (B, N, F) float32 -> (B, N)."""
        if self.has_kernel:
            rows = target.reshape(-1, self.pixels)  # (B·N, F)
            if self.normalised:
                rows = self.norm_kernel(rows, self.gamma, self.beta)[0]  # (B·N, F)
            errors = self.kernel(pred.reshape(-1, self.pixels), rows)  # (B·N,)
            return errors.reshape(pred.shape[:2])  # (B, N)
        if self.normalised:
            target = target - target.mean(-1, keep_dims=True)  # (B, N, F)
            variance = ops.square(target).sum(-1, keepdims=True) / (self.pixels - 1)  # (B, N, 1)
            target = target / ops.sqrt(variance + EPS)  # (B, N, F)
        return ops.square(pred - target).mean(-1)  # (B, N)
