"""The two-layer perceptron of a transformer block."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn

from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import Linear


class Mlp(nn.Cell):
    """fc2(gelu(fc1(x))), of width D -> hidden -> D."""

    def __init__(self, width: int, hidden: int, *, compute_dtype: str = "float32") -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden, compute_dtype=compute_dtype)
        self.act = Gelu()
        self.fc2 = Linear(hidden, width, compute_dtype=compute_dtype)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., D) -> (..., D) in `compute_dtype`."""
        return self.fc2(self.act(self.fc1(x)))  # (..., D)
