"""Exact GELU, x·Φ(x) with the normal distribution's Φ (Hendrycks & Gimpel, arXiv 1606.08415).

MindSpore's `erf` runs on one thread on CPU (50 ms on (8, 197, 3072), where a multiplication takes
1.5). There Φ(x) is computed as sigmoid(x·P(x²)) with P of degree 6, fitted by a weighted minimax
linear programme to logit Φ: |Φ error| ≤ 7.8e-8 and |GELU error| ≤ 8.3e-8 for every x before
rounding. P grows without bound, so no clamping is needed. The derivative is the true one,
Φ(x) + x·φ(x). The compiled kernel does the same in one pass. Elsewhere the framework's erf GELU is
used.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat
from mindformers_vit.kernels import cells

# logit Φ(x) / x as a polynomial in x², constant term first
LOGIT_COEFFICIENTS = (
    1.5957690477371216,
    0.07266712933778763,
    -6.527615914819762e-05,
    -0.00011077378439949825,
    7.981807357282378e-06,
    -2.699704850783746e-07,
    3.691223104951291e-09,
)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class CpuGelu(nn.Cell):
    """Returns (gelu, Φ); Φ is kept for the derivative, callers use the first."""

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        u = ops.square(x)
        p = u * LOGIT_COEFFICIENTS[6] + LOGIT_COEFFICIENTS[5]
        p = p * u + LOGIT_COEFFICIENTS[4]
        p = p * u + LOGIT_COEFFICIENTS[3]
        p = p * u + LOGIT_COEFFICIENTS[2]
        p = p * u + LOGIT_COEFFICIENTS[1]
        p = p * u + LOGIT_COEFFICIENTS[0]
        cdf = ops.sigmoid(p * x)
        return x * cdf, cdf

    def bprop(self, x, out, dout):
        density = ops.exp(ops.square(x) * -0.5 - _LOG_SQRT_2PI)
        return (dout[0] * (out[1] + x * density),)


class Gelu(nn.Cell):
    """x·Φ(x) of any shape, in x's own type (on CPU computed in float32)."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu = compat.device() == "CPU"
        self.cpu_gelu = CpuGelu()
        self.kernel = cells.made(cells.Gelu)
        self.has_kernel = self.kernel is not None

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.has_kernel:
            return self.kernel(x.astype(ms.float32)).astype(x.dtype)
        if self.on_cpu:
            return self.cpu_gelu(x.astype(ms.float32))[0].astype(x.dtype)
        return ops.gelu(x, approximate="none")
