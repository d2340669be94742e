"""The two-layer perceptron of a transformer block."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn

from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.dtype import ms_dtype
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import Linear


class Mlp(nn.Cell):
    """fc2(gelu(fc1(x))), of width D -> hidden -> D."""

    def __init__(self, width: int, hidden: int, *, compute_dtype: str = "float32") -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden, compute_dtype=compute_dtype)
        self.act = Gelu()
        self.fc2 = Linear(hidden, width, compute_dtype=compute_dtype)
        self.hidden = hidden
        is_float32 = ms_dtype(compute_dtype) == ms.float32
        self.kernel = cells.made(cells.GeluLinear) if is_float32 else None
        self.has_kernel = self.kernel is not None

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., D) -> (..., D) in `compute_dtype`."""
        h = self.fc1(x)  # (..., hidden)
        if self.has_kernel:
            y = self.kernel(h.reshape(-1, self.hidden), self.fc2.weight, self.fc2.bias)  # (M, D)
            return y.reshape(x.shape)  # (..., D)
        return self.fc2(self.act(h))  # (..., D)
