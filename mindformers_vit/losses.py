"""Classification losses: float32 whatever the logits are, mean over the batch.

B images, K classes. As timm's SoftTargetCrossEntropy
(https://github.com/huggingface/pytorch-image-models, `timm/loss/cross_entropy.py`).
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops


def soft_target_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of -sum_k target * log_softmax(logits).

    Args:
        logits: (B, ..., K).
        target: (B, ..., K) probabilities, as mixup and label smoothing make them; broadcast.

    Returns:
        float32 scalar.
    """
    log_p = ops.log_softmax(logits.astype(ms.float32), -1)  # (B, K)
    return -(target.astype(ms.float32) * log_p).sum(-1).mean()


class SoftTargetCrossEntropy(nn.Cell):
    """`soft_target_cross_entropy` as a Cell, for MindFormers' register."""

    def construct(self, logits: Tensor, target: Tensor) -> Tensor:
        return soft_target_cross_entropy(logits, target)


def token_label_cross_entropy(
    x_cls: Tensor,
    x_aux: Tensor,
    target: Tensor,
    *,
    mixed: Tensor | float = 0.0,
    cls_weight: float = 1.0,
    dense_weight: float = 1.0,
    ground_truth: bool = False,
) -> Tensor:
    """Cross entropy of the class token plus that of all other tokens (arXiv 2104.10858, eq. 4).

    Args:
        x_cls: (B, K) logits of the class token.
        x_aux: (B, N, K) logits of the others.
        target: (B, K) probabilities for every token, or (B, 2 + N, K): the true label's, the class
            token's, each other token's.
        mixed: share of the tokens that MixToken took from image B-1-i, (1 or B, 1); that much of
            the class token's target comes from there, too.
        cls_weight: of the first term.
        dense_weight: of the second.
        ground_truth: mix the true label into the class token's target: half of it where both have
            the same strongest class, else a tenth.

    Returns:
        float32 scalar.
    """
    target = target.astype(ms.float32)
    if target.ndim == 2:
        t_cls, t_aux = target, target.expand_dims(1)  # (B, K), (B, 1, K)
    else:
        t_cls, t_aux = target[:, 1], target[:, 2:]  # (B, K), (B, N, K)
        if ground_truth:
            t_cls = _with_truth(t_cls, target[:, 0])  # (B, K)
    t_cls = (1.0 - mixed) * t_cls + mixed * ops.flip(t_cls, (0,))  # (B, K)
    dense = soft_target_cross_entropy(x_aux, t_aux)
    return cls_weight * soft_target_cross_entropy(x_cls, t_cls) + dense_weight * dense


def _with_truth(t_cls: Tensor, truth: Tensor) -> Tensor:
    """(B, K), (B, K) -> (B, K)."""
    agree = (t_cls.argmax(-1) == truth.argmax(-1)).astype(ms.float32).expand_dims(-1)  # (B, 1)
    kept = 0.9 - 0.4 * agree  # (B, 1)
    return kept * t_cls + (1.0 - kept) * truth  # (B, K)
