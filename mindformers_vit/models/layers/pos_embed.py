"""Position embeddings as numpy arrays: the fixed sin-cos table, and resizing a learned one.

Legend: h, w grid rows and columns of patches; N = h·w; D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Grid = tuple[int, int]

_CUBIC_A = -0.75  # PyTorch's and OpenCV's bicubic coefficient


def sincos_2d(width: int, grid: Grid) -> Array:
    """The fixed table of MAE (He et al. 2022, arXiv 2111.06377), float64.

    Half of the channels encode the **column**, the other half the row, each as
    [sin(t·ω), cos(t·ω)] with ω_k = 10000^(-k / (D/4)). The class token's row is 0.

    Returns:
        (N + 1, D).

    Raises:
        ValueError: `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sin-cos position embedding: width {width} is no multiple of 4")
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")  # (h, w)
    parts = [_sincos_1d(width // 2, axis.reshape(-1)) for axis in (columns, rows)]  # (N, D/2) each
    table = np.concatenate(parts, axis=1)  # (N, D)
    return np.concatenate([np.zeros((1, width)), table])  # (N + 1, D)


def _sincos_1d(width: int, positions: Array) -> Array:
    omega = 10000.0 ** (-np.arange(width // 2) / (width / 2))  # (D/4,)
    angles = positions[:, None] * omega[None, :]  # (N, D/4)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (N, D/2)


def resize_pos_embed(table: Array, old: Grid, new: Grid) -> Array:
    """A learned table for another grid: bicubic (a = -0.75), half-pixel centres, no antialiasing.

    Equal to `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`. The first
    row, the class token's, is kept.

    Args:
        table: (1, 1 + N_old, D).
        old: grid of the table.
        new: grid wanted.

    Returns:
        (1, 1 + N_new, D), of the table's type.
    """
    kept, patches = table[:, :1], table[0, 1:].astype(np.float64)  # (N_old, D)
    patches = patches.reshape(*old, -1)  # (h, w, D)
    rows, columns = _cubic_matrix(old[0], new[0]), _cubic_matrix(old[1], new[1])
    resized = np.einsum("ij,kl,jld->ikd", rows, columns, patches, optimize=True)  # (h', w', D)
    resized = resized.reshape(1, new[0] * new[1], -1).astype(table.dtype)  # (1, N_new, D)
    return np.concatenate([kept, resized], axis=1)  # (1, 1 + N_new, D)


def _cubic_matrix(old: int, new: int) -> Array:
    """(new, old) interpolation weights along one axis; the border pixel repeats outside."""
    source = (np.arange(new) + 0.5) * (old / new) - 0.5  # (new,)
    first = np.floor(source).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        index = np.clip(first + tap, 0, old - 1)
        np.add.at(matrix, (np.arange(new), index), _cubic(source - (first + tap)))
    return matrix


def _cubic(distance: Array) -> Array:
    """Keys' cubic convolution kernel."""
    x, a = np.abs(distance), _CUBIC_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
