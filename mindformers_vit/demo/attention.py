"""Where a classifier looks: attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928).

Legend: L blocks, h heads, T = N + 1 tokens (class token first), N patches.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Recorder(nn.Cell):
    """An attention core that keeps its last attention; for PyNative mode."""

    def __init__(self, core: nn.Cell) -> None:
        super().__init__()
        self.core = core
        self.seen: Array = np.zeros(0, np.float32)

    def construct(self, *inputs):
        out, attention = self.core(*inputs)
        self.seen = attention.astype(ms.float32).asnumpy()  # (B, h, T, T)
        return out, attention


def record(network: Any) -> list[Recorder]:
    """Make every block of the trunk keep its attention; [] for a network without attention."""
    recorders = []
    for block in getattr(network, "blocks", []):
        block.attn.core = Recorder(block.attn.core)
        block.attn.has_kernel = False  # which keeps no attention
        recorders.append(block.attn.core)
    return recorders


def rollout(attentions: list[Array], *, from_class_token: bool) -> Array:
    """How much each patch of one image counts in the end.

    Args:
        attentions: L arrays (h, T, T), rows sum to 1.
        from_class_token: the network answers from its class token; else from the patches' mean.

    Returns:
        (N,) in [0, 1], the largest 1.
    """
    tokens = attentions[0].shape[-1]
    total = np.eye(tokens, dtype=np.float64)
    for attention in attentions:
        mixed = 0.5 * attention.mean(0).astype(np.float64) + 0.5 * np.eye(tokens)  # residual
        total = mixed @ total
    rows = total[0, 1:] if from_class_token else total[1:, 1:].mean(0)  # (N,)
    return (rows / max(rows.max(), 1e-12)).astype(np.float32)
