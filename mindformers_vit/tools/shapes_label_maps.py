"""Label maps of the shapes data set, as a teacher that knows where the shape is would give them.

    <output_dir>/label_maps/train/<class>/<name>.npy    (2, 1, h, w) float16

For each place: the logit of the picture's class, 8 where the shape covers the whole place and 0
where there is none of it. The format is that of `mindformers_vit/data/token_labels.py`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.tools.shapes import ShapesSettings, items
from mindformers_vit.tools.shapes_picture import CLASSES, render_with_shape

logger = logging.getLogger(__name__)

FOLDER = "label_maps"
PLACE = 8  # pixels of a place of the map, each way
STRONGEST = 8.0


def make_label_maps(output_dir: str | Path, settings: ShapesSettings) -> int:
    """Write the maps of train/ that are not there yet; returns how many were written."""
    root = Path(output_dir)
    written = 0
    for image, split, name, index in items(root, settings):
        path = (root / FOLDER / image.relative_to(root)).with_suffix(".npy")
        if split != "train" or path.is_file():
            continue
        arguments = settings.seed, split, name, index, settings.image_size, settings.difficulty
        _, inside = render_with_shape(*arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, label_map(inside, list(CLASSES).index(name)))
        temporary.replace(path)
        written += 1
    logger.info("%s: %d label maps written", root / FOLDER, written)
    return written


def label_map(inside: NDArray[np.float32], label: int) -> NDArray[np.float16]:
    """The share of each pixel that the shape covers, (S, S), as a map (2, 1, S / 8, S / 8)."""
    side = len(inside) // PLACE
    whole = inside[: side * PLACE, : side * PLACE]
    cover = whole.reshape(side, PLACE, side, PLACE).mean((1, 3))  # (h, w)
    return np.stack([STRONGEST * cover, np.full_like(cover, label)])[:, None].astype(np.float16)
