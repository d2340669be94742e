"""The compiled operators as Cells with their gradients. Arrays are float32.

`made`, `adamw` and `sum_of_squares` give None where this process uses MindSpore's own operators.

A gradient is one operator for each result, those of parameters first: MindSpore frees the results
of an operator together, and left to itself it would compute what only the optimiser waits for when
all else is done, with every activation still in memory.

Legend: M rows, K, N widths, D width, B batch, T tokens, h heads, d = D / h.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit.kernels import library


class MatMul(nn.Cell):
    """x (M, K), weight (N, K) -> x weightᵀ (M, N), multiplied as `library.matmul()` says."""

    kind = "linear"

    def __init__(self, path: Path) -> None:
        super().__init__()
        matmul = library.matmul()
        self.forward = _operator(path, f"{self.kind}_{matmul}", lambda x, w, *_: (x[0], w[0]))
        self.dx = _operator(path, f"{self.kind}_dx_{matmul}", lambda dy, *xw: (dy[0], xw[-1][1]))
        self.dw = _operator(path, f"{self.kind}_dw_{matmul}", lambda dy, x: (dy[1], x[1]))

    def construct(self, x, weight):
        return self.forward(x, weight)  # (M, N)

    def bprop(self, x, weight, out, dout):
        dw = self.dw(dout, x)  # (N, K)
        return self.dx(ops.depend(dout, dw), weight), dw  # (M, K) first


class Linear(MatMul):
    """x (M, K), weight (N, K), bias (N,) -> x weightᵀ + bias (M, N)."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db = _operator(path, "column_sums", lambda dy: (dy[1],))

    def construct(self, x, weight, bias):
        return self.forward(x, weight, bias)  # (M, N)

    def bprop(self, x, weight, bias, out, dout):
        dw, db = self.dw(dout, x), self.db(dout)  # (N, K), (N,)
        return self.dx(ops.depend(dout, (dw, db)), weight), dw, db  # (M, K) first


class GeluLinear(Linear):
    """x (M, K), weight (N, K), bias (N,) -> gelu(x) weightᵀ + bias (M, N).

    The gradient computes gelu(x) again, which is cheaper than to keep it: of what a transformer
    block keeps for the backward pass it is a quarter.
    """

    kind = "gelu_linear"

    def bprop(self, x, weight, bias, out, dout):
        dw, db = self.dw(dout, x), self.db(dout)  # (N, K), (N,)
        return self.dx(ops.depend(dout, (dw, db)), x, weight), dw, db  # (M, K) first


class Gelu(nn.Cell):
    """x·Φ(x), of any shape."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.forward = _operator(path, "gelu", lambda x: x)
        self.dx = _operator(path, "gelu_grad", lambda x, dy: x)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.dx(x, dout),)


class LayerNorm(nn.Cell):
    """x (M, D), gamma (D,), beta (D,) -> y (M, D), mean (M,), 1 / deviation (M,)."""

    def __init__(self, path: Path, eps: float) -> None:
        super().__init__()
        self.eps = ms.Tensor([eps], ms.float32)
        self.forward = _operator(
            path, "layer_norm", lambda x, g, b, e: (x, (x[0],), (x[0],)), outputs=3
        )
        self.dx = _operator(path, "layer_norm_dx", lambda x, g, m, s, dy: x)
        self.sums = _operator(path, "layer_norm_sums", lambda x, *_: ((x[1],), (x[1],)), outputs=2)

    def construct(self, x, gamma, beta):
        return self.forward(x, gamma, beta, self.eps)

    def bprop(self, x, gamma, beta, out, dout):
        dy, mean, scale = dout[0], out[1], out[2]  # (M, D), (M,), (M,)
        dgamma, dbeta = self.sums(x, mean, scale, dy)  # (D,), (D,)
        dx = self.dx(x, gamma, mean, scale, ops.depend(dy, (dgamma, dbeta)))  # (M, D)
        return dx, dgamma, dbeta


class RowErrors(nn.Cell):
    """x, y (M, D) -> the mean of each row of (x - y)² (M,)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.forward = _operator(path, "row_errors", lambda x, y: (x[0],))
        self.dx = _operator(path, "row_errors_dx", lambda x, y, dout: x)

    def construct(self, x, y):
        return self.forward(x, y)

    def bprop(self, x, y, out, dout):
        dx = self.dx(x, y, dout)  # (M, D)
        return dx, -dx


class Attention(nn.Cell):
    """qkv (B, T, 3, h, d) -> softmax(q kᵀ / sqrt(d)) v (B, T, h, d), log denominators (B, h, T)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.forward = _operator(path, "attention", _attention_shapes, outputs=2)
        self.dx = _operator(path, "attention_grad", lambda qkv, out, log_sums, dout: qkv)

    def construct(self, qkv):
        return self.forward(qkv)

    def bprop(self, qkv, out, dout):
        return (self.dx(qkv, out[0], out[1], dout[0]),)


class BiasedAttention(nn.Cell):
    """qkv (B, T, 3, h, d), bias (h, T, T) -> softmax(q kᵀ / sqrt(d) + bias) v (B, T, h, d), log
    denominators (B, h, T).

    Both gradients come from one operator: apart, each would multiply q by k and dout by v.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.forward = _operator(path, "attention", _attention_shapes, outputs=2)
        self.gradients = _operator(
            path, "biased_attention_grad", lambda qkv, bias, *_: (qkv, bias), outputs=2
        )

    def construct(self, qkv, bias):
        return self.forward(qkv, bias)

    def bprop(self, qkv, bias, out, dout):
        return self.gradients(qkv, bias, out[0], out[1], dout[0])


def _attention_shapes(qkv: tuple[int, ...], *_: Any) -> Any:
    b, t, _, h, d = qkv
    return (b, t, h, d), (b, h, t)


@contextlib.contextmanager
def plain_operators(network: nn.Cell) -> Iterator[None]:
    """Inside, what runs or compiles this network sees MindSpore's own operators alone.

    A layer that has a kernel says so in its attribute `has_kernel`.
    """
    own = [cell for _, cell in network.cells_and_names() if getattr(cell, "has_kernel", False)]
    for cell in own:
        cell.has_kernel = False
    try:
        yield
    finally:
        for cell in own:
            cell.has_kernel = True


def made(kind: type[nn.Cell], *settings: Any) -> nn.Cell | None:
    """A new cell of this kind, with its settings."""
    path = library.path()
    return path and kind(path, *settings)


def adamw() -> ops.Custom | None:
    """(n parameters, their m, their v, their gradients, rates (n,), kept (n,), (beta1, beta2, eps))
    -> nothing of use (1,); parameters, m and v change in place.
    """
    path = library.path()
    if path is None:
        return None
    update = _operator(path, "adamw", lambda *_: (1,))
    update.add_prim_attr("side_effect_mem", True)
    return update


def sum_of_squares() -> ops.Custom | None:
    """Arrays of any number and shapes -> the sum over all of them (1,)."""
    path = library.path()
    return path and _operator(path, "sum_of_squares", lambda *_: (1,))


def _operator(path: Path, name: str, shapes: Callable[..., Any], outputs: int = 1) -> ops.Custom:
    def types(first: Any, *_: Any) -> Any:
        return first if outputs == 1 else (first,) * outputs

    return ops.Custom(f"{path}:{name}", shapes, types, func_type="aot")
