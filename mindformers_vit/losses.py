"""Classification losses: float32 whatever the logits are, mean over the batch.

B images, K classes. As timm's SoftTargetCrossEntropy and LabelSmoothingCrossEntropy
(https://github.com/huggingface/pytorch-image-models, `timm/loss/cross_entropy.py`).
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops


def soft_target_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of -sum_k target * log_softmax(logits).

    Args:
        logits: (B, K).
        target: (B, K) probabilities, as mixup and label smoothing make them.

    Returns:
        float32 scalar.
    """
    log_p = ops.log_softmax(logits.astype(ms.float32), -1)  # (B, K)
    return -(target.astype(ms.float32) * log_p).sum(-1).mean()


def cross_entropy(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy against 1 - smoothing on the label and smoothing / K on every class.

    Args:
        logits: (B, K).
        label: (B,) int32 class numbers; one outside 0 .. K - 1 is the caller's mistake and not
            noticed here (the data layer checks labels).
        smoothing: in [0, 1).

    Returns:
        float32 scalar.
    """
    if not 0.0 <= smoothing < 1.0:  # a ValueError: compiled functions know no other classes
        raise ValueError(f"label smoothing must be in [0, 1), given {smoothing}")
    log_p = ops.log_softmax(logits.astype(ms.float32), -1)  # (B, K)
    on_label = ops.gather_elements(log_p, 1, label.reshape(-1, 1)).mean()
    if smoothing == 0.0:
        return -on_label
    return -((1.0 - smoothing) * on_label + smoothing * log_p.mean())
