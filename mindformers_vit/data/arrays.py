"""Transforms that leave Pillow: to arrays, normalisation, random erasing.

Shapes: (H, W, 3) until HWC2CHW or ToTensor, (3, H, W) after. All arithmetic is in float32 and in
torch's order (divide by 255, subtract the mean, divide by std), so results agree to the bit.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field, model_validator

from mindformers_vit.data.fields import Deviations, Layout, Transform
from mindformers_vit.registry import transforms

Array = NDArray[Any]
Float = NDArray[np.float32]
_255 = np.float32(255)


@transforms.register("ToTensor")
class ToTensor(Transform):
    """An image becomes (3, H, W) float32 in [0, 1]."""

    def __call__(self, image: Image | Array, rng: np.random.Generator) -> Float:
        chw = np.asarray(image).transpose(2, 0, 1)
        return np.divide(chw, _255, out=np.empty(chw.shape, np.float32))

    def layout(self, before: Layout) -> Layout:
        if before != "image":
            raise ValueError(f"takes an image, given a {before} array; it belongs before Normalize")
        return "CHW"


@transforms.register("HWC2CHW")
class HWC2CHW(Transform):
    """(H, W, 3) becomes (3, H, W), values untouched."""

    def __call__(self, image: Image | Array, rng: np.random.Generator) -> Array:
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def layout(self, before: Layout) -> Layout:
        if before == "CHW":
            raise ValueError("the array is channel-first already (ToTensor makes it so)")
        return "CHW"


@transforms.register("Normalize")
class Normalize(Transform):
    """(x - mean) / std for each channel, in the units of x: 0..255, or 0..1 after ToTensor."""

    mean: tuple[float, float, float]
    std: Deviations
    is_hwc: bool = True

    def __call__(self, image: Image | Array, rng: np.random.Generator) -> Float:
        array = np.asarray(image)
        shape = (3,) if self.is_hwc else (3, 1, 1)
        mean = np.array(self.mean, np.float32).reshape(shape)
        std = np.array(self.std, np.float32).reshape(shape)
        out = np.subtract(array, mean, out=np.empty(array.shape, np.float32))
        return np.divide(out, std, out=out)

    def layout(self, before: Layout) -> Layout:
        if self.is_hwc and before == "CHW":
            raise ValueError("is_hwc is True but the array is channel-first; set is_hwc: False")
        if not self.is_hwc and before != "CHW":
            raise ValueError(
                "is_hwc is False but the array is channel-last; put ToTensor or HWC2CHW before it"
            )
        return "HWC" if self.is_hwc else "CHW"


@transforms.register("RandomErasing")
class RandomErasing(Transform):
    """Boxes of noise on a normalised (3, H, W) image (timm `random_erasing.py`).

    Area is uniform in [min_area, max_area] (fractions of the image, shared by the boxes), aspect
    log-uniform in [min_aspect, max_aspect]. `mode`: "pixel" N(0, 1) for every value, "rand" one
    N(0, 1) for each channel, "const" zeros.
    """

    probability: float = Field(0.5, ge=0, le=1)
    mode: Literal["pixel", "rand", "const"] = "const"
    min_area: float = Field(0.02, gt=0, le=1)
    max_area: float = Field(1 / 3, gt=0, le=1)
    min_aspect: float = Field(0.3, gt=0)
    max_aspect: float | None = Field(None, gt=0)
    min_count: int = Field(1, ge=1)
    max_count: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> RandomErasing:
        for key in ("area", "aspect", "count"):
            low, high = getattr(self, f"min_{key}"), getattr(self, f"max_{key}")
            if high is not None and low > high:
                raise ValueError(f"min_{key} {low} is greater than max_{key} {high}")
        return self

    def __call__(self, image: Float, rng: np.random.Generator) -> Float:
        return self.erase(image.copy(), rng)

    def erase(self, image: Float, rng: np.random.Generator) -> Float:
        """As a call, but in place."""
        if rng.random() >= self.probability:
            return image
        count = int(rng.integers(self.min_count, (self.max_count or self.min_count) + 1))
        for _ in range(count):
            self._erase_one(image, rng, count)
        return image

    def _erase_one(self, image: Float, rng: np.random.Generator, count: int) -> None:
        channels, height, width = image.shape
        low, high = math.log(self.min_aspect), math.log(self.max_aspect or 1 / self.min_aspect)
        for _ in range(10):
            area = rng.uniform(self.min_area, self.max_area) * height * width / count
            aspect = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top = int(rng.integers(height - h + 1))
                left = int(rng.integers(width - w + 1))
                image[:, top : top + h, left : left + w] = self._pixels(rng, (channels, h, w))
                return

    def _pixels(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> Float:
        if self.mode == "const":
            return np.zeros((shape[0], 1, 1), np.float32)
        drawn = shape if self.mode == "pixel" else (shape[0], 1, 1)
        return rng.standard_normal(drawn, dtype=np.float32)

    def layout(self, before: Layout) -> Layout:
        if before != "CHW":
            raise ValueError("works on a normalised channel-first array; put it at the end")
        return "CHW"
