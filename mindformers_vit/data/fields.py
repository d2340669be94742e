"""What every transform shares: its base class, and the types of the keys users write."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL.Image import Resampling
from pydantic import AfterValidator, BeforeValidator

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.registry import nearest

Layout = Literal["image", "HWC", "CHW"]
"""What a step is given: a Pillow image, a (H, W, 3) array or a (3, H, W) array."""

RESAMPLING = {
    "nearest": Resampling.NEAREST,
    "linear": Resampling.BILINEAR,
    "bilinear": Resampling.BILINEAR,
    "cubic": Resampling.BICUBIC,
    "bicubic": Resampling.BICUBIC,
    "pilcubic": Resampling.BICUBIC,
    "antialias": Resampling.LANCZOS,
    "lanczos": Resampling.LANCZOS,
    "area": Resampling.BOX,
    "box": Resampling.BOX,
    "hamming": Resampling.HAMMING,
}
"""Names of MindFormers, MindSpore (`Inter.*`), torchvision and Pillow. All are Pillow's filters:
with antialiasing on down-scaling, and 'cubic' and 'bicubic' are one thing."""


class Transform(StrictModel):
    """One step of a pipeline: `step(image, rng) -> image`, random draws from `rng` only.

    Attributes:
        moves_pixels: the step takes a third argument, a `LabelView` or None, and tells it what
            becomes of the places in the image. A plug-in that moves pixels sets it, too, or its
            images and their label maps part ways.
    """

    moves_pixels: ClassVar[bool] = False

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    def layout(self, before: Layout) -> Layout:
        """The layout after this step; ValueError if it cannot take `before`."""
        if before != "image":
            raise ValueError("works on images; put it before ToTensor, Normalize and HWC2CHW")
        return "image"


def _check_interpolation(value: Any) -> str:
    name = str(value).lower().removeprefix("inter.")
    if name not in RESAMPLING:
        known = ", ".join(RESAMPLING)
        raise ValueError(
            f"unknown interpolation {value!r}{nearest(name, RESAMPLING)}; known: {known}"
        )
    return name


def _check_random_interpolation(value: Any) -> str:
    return "random" if value == "random" else _check_interpolation(value)


def _check_size(value: Any) -> int | tuple[int, int]:
    if _is_positive(value):
        return int(value)
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_positive, value)):
        return int(value[0]), int(value[1])
    raise ValueError(f"expected a positive integer or [height, width], given {value!r}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"expected [low, high] with 0 < low <= high, given {list(value)}")
    return value


def _check_deviations(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(value) <= 0:
        raise ValueError(f"must be greater than 0, given {list(value)}")
    return value


Size = Annotated[int | tuple[int, int], BeforeValidator(_check_size)]
"""Pixels: a side, or [height, width]."""
Interpolation = Annotated[str, BeforeValidator(_check_interpolation)]
RandomInterpolation = Annotated[str, BeforeValidator(_check_random_interpolation)]
"""An interpolation name, or "random": bilinear or bicubic at each call."""
Deviations = Annotated[tuple[float, float, float], AfterValidator(_check_deviations)]
Range = Annotated[tuple[float, float], AfterValidator(_check_range)]


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """A `Size` as (height, width)."""
    return (size, size) if isinstance(size, int) else size


def resampling(name: str, rng: np.random.Generator) -> Resampling:
    """Pillow's filter for an interpolation name; "random" draws one of two from `rng`."""
    if name == "random":
        name = "bilinear" if rng.random() < 0.5 else "bicubic"
    return RESAMPLING[name]
