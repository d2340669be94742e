"""MixToken: a box of tokens is exchanged with the partner image's (arXiv 2104.10858, section 3.3).

Image i's partner is image B-1-i. Exchanging twice restores, so the same function brings the
logits of the box back after the blocks.

Legend: B batch, N patches of a grid of rows x columns, F features.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops


def box_mask(box: ms.Tensor, grid: tuple[int, int]) -> ms.Tensor:
    """(1 or B, 4) first row, first column, row and column after the last -> (1 or B, N, 1) 0/1."""
    rows, columns = grid
    place = ops.arange(rows * columns).reshape(1, -1)  # (1, N)
    row, column = place // columns, place % columns  # (1, N)
    box = box.reshape(-1, 4)  # (1 or B, 4)
    inside = (row >= box[:, 0:1]) & (row < box[:, 2:3])  # (1 or B, N)
    inside = inside & (column >= box[:, 1:2]) & (column < box[:, 3:4])  # (1 or B, N)
    return inside.astype(ms.float32).expand_dims(-1)  # (1 or B, N, 1)


def mix_with_partner(x: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
    """x (B, N, F) with the tokens of the mask (1 or B, N, 1) from the flipped batch."""
    return x * (1.0 - mask) + ops.flip(x, (0,)) * mask  # (B, N, F)


def box_share(box: ms.Tensor, num_patches: int) -> ms.Tensor:
    """(1 or B, 4) -> (1 or B, 1) the share of the tokens that lie in the box."""
    box = box.reshape(-1, 4).astype(ms.float32)  # (1 or B, 4)
    return (box[:, 2:3] - box[:, 0:1]) * (box[:, 3:4] - box[:, 1:2]) / num_patches  # (1 or B, 1)
