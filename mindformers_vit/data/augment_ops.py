"""The 15 operations of RandAugment, as timm 0.3-0.5 defines them (`timm/data/auto_augment.py`).

A magnitude 0..10 becomes the strength of an operation; two tables, `OPS` and `INCREASING_OPS`
(the set of "inc1", whose effect grows with the magnitude throughout).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageEnhance, ImageOps
from PIL.Image import Image, Resampling
from PIL.Image import Transform as Warp

MAX_MAGNITUDE = 10.0
TRANSLATE_FRACTION = 0.45
Fill = tuple[int, int, int]
Operation = Callable[[Image, float, Fill, Resampling], Image]
Matrix = Callable[[tuple[int, int], float], tuple[float, ...]]
"""(width, height), strength -> (a, b, c, d, e, f) of Pillow's AFFINE transform."""


@dataclass(frozen=True)
class Op:
    """One operation: `strength(m)` turns a magnitude 0..10 into the argument of `apply`.

    `matrix` is what it does to places in the image; None: nothing.
    """

    name: str
    strength: Callable[[float], float]
    apply: Operation
    signed: bool = False  # the sign of the strength is random
    matrix: Matrix | None = None


def _warp(name: str, strength: Callable[[float], float], matrix: Matrix) -> Op:
    """An operation that moves every place of the image."""

    def apply(image: Image, by: float, fill: Fill, how: Resampling) -> Image:
        affine = matrix(image.size, by)
        return image.transform(image.size, Warp.AFFINE, affine, resample=how, fillcolor=fill)

    return Op(name, strength, apply, signed=True, matrix=matrix)


def _rotation(size: tuple[int, int], degrees: float) -> tuple[float, ...]:
    """About the centre, rounded as `Image.rotate` does it."""
    angle = -math.radians(degrees % 360)
    c, s = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = size[0] / 2, size[1] / 2
    return c, s, c * -x + s * -y + x, -s, c, -s * -x + c * -y + y


def _posterize(image: Image, bits: float, fill: Fill, how: Resampling) -> Image:
    return image if bits >= 8 else ImageOps.posterize(image, int(bits))


def _solarize(image: Image, threshold: float, fill: Fill, how: Resampling) -> Image:
    return ImageOps.solarize(image, int(threshold))


def _solarize_add(image: Image, add: float, fill: Fill, how: Resampling) -> Image:
    table = [min(255, value + int(add)) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _enhance(kind: Callable[[Image], ImageEnhance._Enhance]) -> Operation:
    """Strength s gives factor 1 + s: 1 is the image itself."""
    return lambda image, by, fill, how: kind(image).enhance(1.0 + by)


def _plain(function: Callable[[Image], Image]) -> Operation:
    return lambda image, by, fill, how: function(image)


def _part(full: float) -> Callable[[float], float]:
    return lambda magnitude: magnitude / MAX_MAGNITUDE * full


def _whole(full: int) -> Callable[[float], float]:
    return lambda magnitude: float(int(magnitude / MAX_MAGNITUDE * full))


def _less(full: int) -> Callable[[float], float]:
    return lambda magnitude: float(full - int(magnitude / MAX_MAGNITUDE * full))


_ENHANCERS: dict[str, Callable[[Image], ImageEnhance._Enhance]] = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}
_FIRST = (
    Op("AutoContrast", _part(0), _plain(ImageOps.autocontrast)),
    Op("Equalize", _part(0), _plain(ImageOps.equalize)),
    Op("Invert", _part(0), _plain(ImageOps.invert)),
    _warp("Rotate", _part(30), _rotation),
)
_LAST = (
    _warp("ShearX", _part(0.3), lambda size, by: (1, by, 0, 0, 1, 0)),
    _warp("ShearY", _part(0.3), lambda size, by: (1, 0, 0, by, 1, 0)),
    _warp(
        "TranslateXRel", _part(TRANSLATE_FRACTION), lambda size, by: (1, 0, by * size[0], 0, 1, 0)
    ),
    _warp(
        "TranslateYRel", _part(TRANSLATE_FRACTION), lambda size, by: (1, 0, 0, 0, 1, by * size[1])
    ),
)
OPS = (
    *_FIRST,
    Op("Posterize", _whole(4), _posterize),
    Op("Solarize", _whole(256), _solarize),
    Op("SolarizeAdd", _whole(110), _solarize_add),
    *(  # strength 0.1..1.9, less one
        Op(name, lambda m: m / MAX_MAGNITUDE * 1.8 - 0.9, _enhance(kind))
        for name, kind in _ENHANCERS.items()
    ),
    *_LAST,
)
INCREASING_OPS = (
    *_FIRST,
    Op("PosterizeIncreasing", _less(4), _posterize),
    Op("SolarizeIncreasing", _less(256), _solarize),
    Op("SolarizeAdd", _whole(110), _solarize_add),
    *(
        Op(f"{name}Increasing", _part(0.9), _enhance(kind), signed=True)
        for name, kind in _ENHANCERS.items()
    ),
    *_LAST,
)
