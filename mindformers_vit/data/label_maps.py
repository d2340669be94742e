"""The folder of label maps beside a folder of images; what an image shows of its map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from mindformers_vit.data.token_labels import (
    Box,
    BoxOrder,
    Float,
    flip_map,
    load_label_map,
    token_targets,
    warp_map,
)


@dataclass(frozen=True)
class LabelMaps:
    """`<label_map_dir>/<class>/<name>.npy` for the image `<dataset_dir>/<class>/<name>.<ending>`.

    Args:
        label_map_dir: root of the maps.
        dataset_dir: root of the images.
        grid: rows and columns of the network's tokens.
        num_classes: K of the targets.
        smoothing: of every target.
        order: see `token_labels.map_box`.
    """

    label_map_dir: str
    dataset_dir: str
    grid: tuple[int, int]
    num_classes: int
    smoothing: float = 0.0
    order: BoxOrder = "reference"

    @property
    def shape(self) -> tuple[int, int]:
        """Of the targets of an image: (2 + N, K)."""
        return 2 + self.grid[0] * self.grid[1], self.num_classes

    def path_of(self, image_path: str) -> str:
        """The map of an image that `open_source(dataset_dir)` has found."""
        below = image_path.removeprefix(self.dataset_dir).lstrip("/")  # of ".", paths are below it
        return f"{self.label_map_dir}/{below.rpartition('.')[0]}.npy"

    def view_of(self, image_path: str) -> LabelView:
        """The map of an image, to be told what happens to the image.

        Raises:
            DataError: there is none, or it is no label map; with the file's name.
        """
        return LabelView(load_label_map(self.path_of(image_path), self.num_classes))

    def targets(self, view: LabelView, label: int) -> Float:
        """(2 + N, K): the targets of an image whose view has followed its transforms."""
        return token_targets(
            view.label_map,
            label,
            self.num_classes,
            crop=view.crop,
            grid=self.grid,
            smoothing=self.smoothing,
            order=self.order,
        )

    def missing(self, image_paths: Sequence[str]) -> list[str]:
        """The maps that are not there; one listing a folder, not one look an image."""
        wanted = (self.path_of(path).rpartition("/") for path in image_paths)
        found: list[str] = []
        for folder, parts in groupby(wanted, key=itemgetter(0)):
            names = {entry.name for entry in os.scandir(folder)} if Path(folder).is_dir() else set()
            found += ["".join(part) for part in parts if part[2] not in names]
        return found


class LabelView:
    """A label map (2, M, h, w) and the box of it that the image shows now.

    Transforms that move pixels tell it what they did: see `Transform.moves_pixels`.

    Attributes:
        label_map: the map, mirrored and warped as the whole image would be.
        crop: (top, left, height, width) of the image in it, as fractions of the map.
    """

    def __init__(self, label_map: Float) -> None:
        self.label_map = label_map
        self.crop: Box = (0.0, 0.0, 1.0, 1.0)

    def flip(self) -> None:
        """The image was mirrored left to right."""
        top, left, height, width = self.crop
        self.label_map = flip_map(self.label_map)
        self.crop = (top, 1.0 - left - width, height, width)

    def cut(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        """The box (left, top, right, bottom) was cut out of the image of (width, height) pixels."""
        top, left, height, width = self.crop
        tall, wide = height / size[1], width / size[0]  # of a pixel
        self.crop = (
            top + box[1] * tall,
            left + box[0] * wide,
            (box[3] - box[1]) * tall,
            (box[2] - box[0]) * wide,
        )

    def warp(self, affine: tuple[float, ...], size: tuple[int, int]) -> None:
        """The image of (width, height) pixels was warped by Pillow's AFFINE transform."""
        top, left, height, width = self.crop
        to_map = np.array([[width / size[0], 0, left], [0, height / size[1], top], [0, 0, 1]])
        pixels = np.array([*affine, 0, 0, 1]).reshape(3, 3)
        on_map = to_map @ pixels @ np.linalg.inv(to_map)  # the same warp, in fractions of the map
        self.label_map = warp_map(self.label_map, tuple(on_map[:2].ravel().tolist()), (1, 1))
