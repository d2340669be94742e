"""The norm of all gradients, and what hangs on it: clipping, and whether the step may be taken.

Meant for use inside a compiled train step:

    norm = global_norm(grads)
    grads = clip(grads, norm, max_norm)
    if ops.isfinite(norm):
        optimizer(grads, lr)
"""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, ops


def global_norm(grads: tuple[Tensor, ...], squares: Any = None) -> Tensor:
    """Root of the sum of all squares: float32 scalar, not finite if any gradient is not.

    A sum of squares beyond float32 (norm > 1.8e19) is not finite, too.

    Args:
        squares: the compiled kernel for the sum of all squares, if there is one.
    """
    if squares is not None:
        return ops.sqrt(squares(*grads).reshape(()))
    total = 0.0
    for grad in grads:  # `total +=` would be three operators each
        rows = grad.reshape(-1, grad.shape[-1] if grad.ndim > 1 else 1)
        total = total + ops.square(rows).sum(-1).sum()
    return ops.sqrt(total)


def clip(grads: tuple[Tensor, ...], norm: Tensor, max_norm: float) -> tuple[Tensor, ...]:
    """Gradients times min(1, max_norm / (norm + 1e-6)), as torch's `clip_grad_norm_` does."""
    factor = ops.minimum(max_norm / (norm + 1e-6), 1.0)
    clipped: tuple[Tensor, ...] = ()
    for grad in grads:
        clipped += (grad * factor,)
    return clipped
