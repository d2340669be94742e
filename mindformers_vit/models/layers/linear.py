"""A fully connected layer in the forms that are fast on CPU, too.

Measured (1576 rows, 768 -> 3072): `matmul` on two axes with `transpose_b` 35 ms where
`ops.matmul(x, w.T)` on three takes 69; a bias gradient as a matrix product with ones 0.8 ms where
`BiasAddGrad` takes 28.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindformers_vit.kernels import cells
from mindformers_vit.models.layers.dtype import ms_dtype


class BiasAdd(nn.Cell):
    """(M, D) + (D,), whose bias gradient is a matrix product instead of `BiasAddGrad`."""

    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.MatMul()

    def construct(self, x: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return ops.bias_add(x, bias)  # (M, D)

    def bprop(self, x, bias, out, dout):
        ones = ops.ones((1, x.shape[0]), ms.float32)  # (1, M)
        dbias = self.matmul(ones, dout.astype(ms.float32)).reshape(-1)  # (D,)
        return dout, dbias.astype(bias.dtype)


class Multiply(nn.Cell):
    """x Wᵀ + b on two axes, by the compiled kernel where there is one.

    Args:
        bias: whether there is one; without it, what is given is not used.
        dtype: of the product; W and b are cast to it.
    """

    def __init__(self, *, bias: bool, dtype: ms.Type) -> None:
        super().__init__()
        self.has_bias = bias
        self.dtype = dtype
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = BiasAdd()
        kind = cells.Linear if bias else cells.MatMul
        self.kernel = cells.made(kind) if dtype == ms.float32 else None
        self.has_kernel = self.kernel is not None

    def construct(self, x, weight, bias):
        """x (M, in), weight (out, in), bias (out,) -> (M, out)."""
        x = x.astype(self.dtype)  # (M, in)
        if self.has_kernel:
            return self.kernel(x, weight, bias) if self.has_bias else self.kernel(x, weight)
        y = self.matmul(x, weight.astype(self.dtype))  # (M, out)
        return self.bias_add(y, bias.astype(self.dtype)) if self.has_bias else y  # (M, out)


class Linear(nn.Cell):
    """y = x Wᵀ + b with `weight` (out, in) and `bias` (out), computed in `compute_dtype`.

    The parameters stay float32 and hold zeros until `init_weights` or a checkpoint fills them.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        bias: whether there is one.
        compute_dtype: "float32", "float16" or "bfloat16"; also the type of the output.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        compute_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.weight = zeros_parameter((out_features, in_features))
        self.bias = zeros_parameter((out_features,)) if bias else None
        self.in_features = in_features
        self.out_features = out_features
        self.multiply = Multiply(bias=bias, dtype=ms_dtype(compute_dtype))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out)."""
        y = self.multiply(x.reshape(-1, self.in_features), self.weight, self.bias)  # (M, out)
        return y.reshape(*x.shape[:-1], self.out_features)  # (..., out)


def zeros_parameter(shape: tuple[int, ...], *, trainable: bool = True) -> ms.Parameter:
    """A float32 parameter that `init_weights` or a checkpoint is still to fill."""
    return ms.Parameter(ms.Tensor(np.zeros(shape, np.float32)), requires_grad=trainable)
