"""BEiT's relative positions as numpy arrays: which table row a pair of tokens takes, and a table
for another grid. No MindSpore here.

Legend: h, w rows and columns of patches, T = h·w + 1 tokens, n = (2h-1)·(2w-1) + 3 table rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mindformers_vit.errors import CheckpointError

Array = np.ndarray[Any, Any]
Grid = tuple[int, int]

EXTRA_ROWS = 3  # the last of the table: class token to token, token to it, it to itself


def table_rows(grid: Grid) -> int:
    """n: one row for every offset between two patches, and the three of the class token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA_ROWS


def relative_position_index(grid: Grid) -> Array:
    """(T, T) table rows; the query's place selects the row, the key's the column."""
    y, x = (axis.reshape(-1) for axis in np.indices(grid))  # (h·w,) each
    down = y[:, None] - y[None, :] + grid[0] - 1  # (h·w, h·w)
    right = x[:, None] - x[None, :] + grid[1] - 1  # (h·w, h·w)
    rows = table_rows(grid)
    index = np.empty((y.size + 1, y.size + 1), np.int64)
    index[1:, 1:] = down * (2 * grid[1] - 1) + right
    index[0, :] = rows - 3
    index[:, 0] = rows - 2
    index[0, 0] = rows - 1
    return index


def square_grid(rows: int) -> int:
    """The side of the square grid of patches that a table of so many rows is for.

    Raises:
        CheckpointError: there is none.
    """
    side = math.isqrt(max(rows - EXTRA_ROWS, 0))
    if side % 2 == 0 or side * side + EXTRA_ROWS != rows:
        raise CheckpointError(
            f"relative_position_bias_table has {rows} rows, not (2·grid - 1)² + {EXTRA_ROWS}"
        )
    return (side + 1) // 2


def resize_table(table: Array, grid: Grid) -> Array:
    """A square grid's table for another grid, as BEiT's own fine-tuning does it.

    Near offsets keep their value; the steps between the old offsets grow geometrically so that
    the farthest old offset lands on the farthest new one. Between them: cubic splines along both
    axes, and the border's value outside. The last three rows are kept.

    Args:
        table: (n_old, heads).
        grid: the grid wanted.

    Returns:
        (n_new, heads), of the table's type.

    Raises:
        CheckpointError: the old grid is not square, or has less than 3x3 patches.
    """
    side = square_grid(table.shape[0])
    if side < 3:
        raise CheckpointError(
            f"relative_position_bias_table of a {side}x{side} grid cannot be resized: "
            f"cubic splines need 3x3 or more"
        )
    old = 2 * side - 1
    patches = table[:-EXTRA_ROWS].astype(np.float64).reshape(old, old, -1)  # (2h-1, 2w-1, heads)
    for axis in (0, 1):
        patches = _resize_axis(patches, axis, side - 1, grid[axis] - 1)
    flat = patches.reshape(-1, table.shape[1]).astype(table.dtype)
    return np.concatenate([flat, table[-EXTRA_ROWS:]])  # (n_new, heads)


def _resize_axis(patches: Array, axis: int, old: int, new: int) -> Array:
    """The axis of offsets -old..old becomes one of -new..new."""
    from scipy.interpolate import make_interp_spline

    offsets = _geometric_offsets(old, new)  # (2·old + 1,)
    wanted = np.clip(np.arange(-new, new + 1), offsets[0], offsets[-1])  # (2·new + 1,)
    return make_interp_spline(offsets, patches, axis=axis)(wanted)


def _geometric_offsets(old: int, new: int) -> Array:
    """(2·old + 1,) where the old offsets -old..old lie: 0, ±1, ±(1 + q), ±(1 + q + q²), ...

    q makes the last one `new`, but stays in [1.01, 1.5] (found to 1e-6, as BEiT's code does).
    """
    low, high, q = 1.01, 1.5, 1.0
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**old) / (1 - q) > new:
            high = q
        else:
            low = q
    steps = np.cumsum(q ** np.arange(old))  # (old,)
    return np.concatenate([-steps[::-1], [0.0], steps])
