"""Dense token labels: what a teacher says about every place of an image, for every token of a crop.

A label map is an array (2, M, h, w) of an `.npy` file: for each place of a coarse grid over the
whole image, the M strongest logits [0] and their classes [1]. It follows the image through flips
and warps; a crop is kept as a box, and the map is read there with RoIAlign at the very end. As in
https://github.com/zihangJiang/TokenLabeling (arXiv 2104.10858) and, before it, arXiv 2101.05022.

Legend: M kept classes, h, w map grid, K classes, rows x columns = N tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.data.mixup import soft_targets
from mindformers_vit.errors import DataError

Array = NDArray[Any]
Float = NDArray[np.float32]
Box = tuple[float, float, float, float]
BoxOrder = Literal["reference", "straight"]


def load_label_map(path: str | Path, num_classes: int) -> Float:
    """The map (2, M, h, w) of an `.npy` file, as float32.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # read once its shape is known
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a label map: {error}") from error
    shape = found.shape if isinstance(found, np.ndarray) and found.dtype.kind in "fiu" else None
    if shape is None or len(shape) != 4 or shape[0] != 2 or 0 in shape or shape[1] > num_classes:
        raise DataError(
            f"{path}: a label map is an array (2, M, h, w) of numbers, M at most the "
            f"{num_classes} classes; found {shape or 'something else'}"
        )
    label_map: Float = found.astype(np.float32)
    ids = label_map[1]
    if not np.isfinite(label_map).all() or ids.min() < 0 or ids.max() >= num_classes:
        raise DataError(
            f"{path}: holds numbers that are not finite, or classes outside 0..{num_classes - 1}"
        )
    return label_map


def flip_map(label_map: Float) -> Float:
    """The map of the image mirrored left to right."""
    return np.ascontiguousarray(label_map[..., ::-1])


def warp_map(label_map: Float, affine: tuple[float, ...], image_size: tuple[int, int]) -> Float:
    """The map of an image warped by Pillow's `Image.transform(size, AFFINE, affine)`.

    Args:
        affine: (a, b, c, d, e, f): the image's pixel (x, y) comes from (ax + by + c, dx + ey + f).
        image_size: (height, width) of the image in pixels.

    Returns:
        The nearest place's values; where nothing was, the logits are 0.
    """
    a, b, c, d, e, f = affine
    h, w = label_map.shape[-2:]
    tall, wide = image_size[0] / h, image_size[1] / w  # pixels of a place
    y, x = np.meshgrid((np.arange(h) + 0.5) * tall, (np.arange(w) + 0.5) * wide, indexing="ij")
    column = np.floor((a * x + b * y + c) / wide).astype(int)  # (h, w)
    row = np.floor((d * x + e * y + f) / tall).astype(int)  # (h, w)
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)  # (h, w)
    warped: Float = label_map[..., row.clip(0, h - 1), column.clip(0, w - 1)]  # (2, M, h, w)
    warped[0] *= inside
    return warped


def dense_logits(label_map: Float, num_classes: int) -> Float:
    """(2, M, h, w) -> (K, h, w): the kept logits, 0 for every other class."""
    dense = np.zeros((num_classes, *label_map.shape[-2:]), np.float32)  # (K, h, w)
    np.put_along_axis(dense, label_map[1].astype(np.int64), label_map[0], axis=0)
    return dense


def map_box(crop: Box, map_size: tuple[int, int], order: BoxOrder = "reference") -> Box:
    """The box (x1, y1, x2, y2) of a crop on the map.

    Args:
        crop: (top, left, height, width) as fractions of the image.
        map_size: (h, w).
        order: "reference" as the authors' code, which hands (top, left, bottom, right) to a
            function that reads (x1, y1, x2, y2), so that rows and columns change places;
            "straight" does not.
    """
    top, left, height, width = crop
    h, w = map_size
    y1, x1, y2, x2 = top, left, top + height, left + width
    if order == "reference":
        y1, x1, y2, x2 = x1, y1, x2, y2
    return x1 * w - 0.5, y1 * h - 0.5, x2 * w - 0.5, y2 * h - 0.5


def roi_align(features: Float, box: Box, grid: tuple[int, int]) -> Float:
    """RoIAlign (arXiv 1703.06870) of one box: (K, h, w) -> (K, rows, columns).

    As torchvision's with `spatial_scale=1, sampling_ratio=-1, aligned=False`: each cell is the
    mean of ceil(cell) x ceil(cell) bilinear samples; the box has at least one place each way.
    """
    x1, y1, x2, y2 = box
    rows = _samples(y1, y2, grid[0], features.shape[1])  # (rows, h)
    columns = _samples(x1, x2, grid[1], features.shape[2])  # (columns, w)
    return np.matmul(np.matmul(rows, features), columns.T).astype(np.float32)


def _samples(start: float, end: float, cells: int, length: int) -> Array:
    """(cells, length) weights of the places along one axis."""
    extent = max(end - start, 1.0)
    count = int(np.ceil(round(extent / cells, 6)))  # a box of 3.0000000000000004 places has 3
    at = start + (np.arange(cells * count) + 0.5) * extent / (cells * count)  # (cells·count,)
    counts = (at >= -1.0) & (at <= length)  # samples further out are 0
    at = at.clip(0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    weights = np.zeros((cells * count, length))
    index = np.arange(cells * count)
    np.add.at(weights, (index, low), (1.0 - (at - low)) * counts)
    np.add.at(weights, (index, high), (at - low) * counts)
    return weights.reshape(cells, count, length).mean(1)


def token_targets(
    label_map: Float,
    label: int,
    num_classes: int,
    *,
    crop: Box,
    grid: tuple[int, int],
    smoothing: float = 0.1,
    order: BoxOrder = "reference",
) -> Float:
    """The targets of one crop: (2 + N, K) as `losses.token_label_cross_entropy` takes them.

    Args:
        label_map: (2, M, h, w), having followed the image through flips and warps.
        label: the true class.
        crop: (top, left, height, width) as fractions of the image.
        grid: rows and columns of tokens.
        smoothing: s; a probability p becomes p · (1 - s + s/K) + s/K.
        order: see `map_box`.

    Returns:
        The true label's, the class token's, then each token's row by row.
    """
    logits = dense_logits(label_map, num_classes)  # (K, h, w)
    box = map_box(crop, (logits.shape[1], logits.shape[2]), order)
    parts = [roi_align(logits, box, cells).reshape(num_classes, -1) for cells in ((1, 1), grid)]
    found = np.concatenate(parts, axis=1).T  # (1 + N, K)
    found = np.exp(found - found.max(-1, keepdims=True))
    found /= found.sum(-1, keepdims=True)
    off = smoothing / num_classes
    truth = soft_targets(np.array([label], np.int32), num_classes, smoothing)  # (1, K)
    return np.concatenate([truth, found * np.float32(1.0 - smoothing + off) + np.float32(off)])
