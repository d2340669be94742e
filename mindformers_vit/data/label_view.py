"""Which part of its label map an image shows, while the transforms change the image."""

from __future__ import annotations

import numpy as np

from mindformers_vit.data.token_labels import Box, Float, flip_map, warp_map


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
