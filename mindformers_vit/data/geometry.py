"""Transforms of Pillow images: decode (done already), resize, crop, flip.

Sizes and offsets are torchvision's to the pixel (`torchvision/transforms/functional.py`).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from PIL.Image import Image, Transpose
from pydantic import Field

from mindformers_vit.data.fields import (
    RESAMPLING,
    Interpolation,
    RandomInterpolation,
    Range,
    Size,
    Transform,
    height_width,
    resampling,
)
from mindformers_vit.data.label_maps import LabelView
from mindformers_vit.data.pixels import Box, resize
from mindformers_vit.registry import transforms


@transforms.register("Decode", "ToPIL")
class Keep(Transform):
    """Nothing to do: the loader decodes to a Pillow image and geometry stays in Pillow.

    `to_pil` of MindSpore's Decode is accepted: it is a Pillow image either way.
    """

    to_pil: bool = True

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        return image


@transforms.register("Resize")
class Resize(Transform):
    """An integer is the short side, the long side is truncated; [height, width] is exact."""

    size: Size
    interpolation: Interpolation = "bicubic"

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        height, width = self._target(image.height, image.width)
        if (width, height) == image.size:
            return image
        whole = (0, 0, *image.size)
        return resize(image, whole, (width, height), RESAMPLING[self.interpolation])

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        if height < width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size


@transforms.register("CenterCrop")
class CenterCrop(Transform):
    """Offsets round half to even; where the image is smaller, the border is black."""

    size: Size
    moves_pixels: ClassVar[bool] = True

    def __call__(
        self, image: Image, rng: np.random.Generator, view: LabelView | None = None
    ) -> Image:
        height, width = height_width(self.size)
        left = _centre(image.width, width)
        top = _centre(image.height, height)
        box = (left, top, left + width, top + height)
        if view is not None:
            view.cut(box, image.size)
        return image.crop(box)


def _centre(have: int, want: int) -> int:
    """Where the crop starts; torchvision pads a too small side first, the odd pixel after."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


@transforms.register("RandomResizedCrop", "RandomCropDecodeResize")
class RandomResizedCrop(Transform):
    """A box of random area and aspect, resized to `size`.

    Area uniform in `scale` (fractions), aspect log-uniform in `ratio` (width / height). After
    `max_attempts` boxes that do not fit: the largest centred box with an allowed aspect.
    """

    size: Size
    scale: Range = (0.08, 1.0)
    ratio: Range = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: RandomInterpolation = "bicubic"
    max_attempts: int = Field(10, ge=1)
    moves_pixels: ClassVar[bool] = True

    def __call__(
        self, image: Image, rng: np.random.Generator, view: LabelView | None = None
    ) -> Image:
        box = self.draw_box(image.height, image.width, rng)
        if view is not None:
            view.cut(box, image.size)
        height, width = height_width(self.size)
        return resize(image, box, (width, height), resampling(self.interpolation, rng))

    def draw_box(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """The box to cut from an image of this size."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(self.max_attempts):
            area = height * width * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(height - h + 1))
                left = int(rng.integers(width - w + 1))
                return left, top, left + w, top + h
        return self._fallback(height, width)

    def _fallback(self, height: int, width: int) -> Box:
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        top, left = (height - h) // 2, (width - w) // 2
        return left, top, left + w, top + h


@transforms.register("RandomHorizontalFlip")
class RandomHorizontalFlip(Transform):
    """Mirror left and right with probability `prob`."""

    prob: float = Field(0.5, ge=0, le=1)
    moves_pixels: ClassVar[bool] = True

    def __call__(
        self, image: Image, rng: np.random.Generator, view: LabelView | None = None
    ) -> Image:
        if rng.random() >= self.prob:
            return image
        if view is not None:
            view.flip()
        return image.transpose(Transpose.FLIP_LEFT_RIGHT)
