"""One picture of the shapes data set: a textured shape on a cluttered background.

A class is a shape *and* a texture: every shape comes with two textures and every texture with
three shapes, so neither alone names the class. Colours, position, size, rotation, stretch,
background, clutter, light and noise are drawn independently of the class.

Coordinates run over [-1, 1] in both directions.
Letters: S picture side. Pictures are planes (3, S, S) float32 in [0, 1] until the last step.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindformers_vit.tools.shapes_forms import SHAPES, TEXTURES, Plane, cover

Colour = tuple[float, float, float]

# class name -> (shape, texture); the position in this table is part of every picture's seed
CLASSES: dict[str, tuple[str, str]] = {
    "checkered_square": ("square", "checkered"),
    "checkered_star": ("star", "checkered"),
    "checkered_triangle": ("triangle", "checkered"),
    "dotted_disc": ("disc", "dotted"),
    "dotted_square": ("square", "dotted"),
    "dotted_star": ("star", "dotted"),
    "solid_cross": ("cross", "solid"),
    "solid_ring": ("ring", "solid"),
    "solid_triangle": ("triangle", "solid"),
    "striped_cross": ("cross", "striped"),
    "striped_disc": ("disc", "striped"),
    "striped_ring": ("ring", "striped"),
}
SPLITS = ("train", "train_labelled", "val")


@dataclass(frozen=True)
class Difficulty:
    """What makes the pictures hard; the defaults leave them easy for a person."""

    clutter: float = 0.2  # 0 plain background .. 1 loud background and many small objects
    noise: float = 0.02  # largest standard deviation of the pixel noise, of a range of 1
    min_scale: float = 0.75  # smallest diameter of the shape, as a part of the picture's side
    max_scale: float = 0.95  # largest diameter
    contrast: float = 0.5  # smallest RGB distance (0..1.7) between shape, texture, background
    rotation: float = 15.0  # largest turn of shape and texture, in degrees either way


def render(
    seed: int, split: str, class_name: str, index: int, size: int, difficulty: Difficulty
) -> NDArray[np.uint8]:
    """The picture (S, S, 3) uint8; a function of its arguments and of nothing else."""
    return render_with_shape(seed, split, class_name, index, size, difficulty)[0]


def render_with_shape(
    seed: int, split: str, class_name: str, index: int, size: int, difficulty: Difficulty
) -> tuple[NDArray[np.uint8], Plane]:
    """The picture, and the share of each of its pixels that the shape covers, (S, S) in [0, 1]."""
    key = (seed, SPLITS.index(split), list(CLASSES).index(class_name), index)
    rng = np.random.default_rng(np.random.SeedSequence(key))
    axis = (np.arange(size, dtype=np.float32) * 2 + 1) / size - 1
    x, y = np.meshgrid(axis, axis)
    ground, image = _background(rng, x, y, difficulty)
    small = round(rng.random() * 8 * difficulty.clutter)
    for _ in range(small):
        _small_object(rng, x, y, image)
    inside = _target(rng, x, y, image, CLASSES[class_name], ground, difficulty)
    if rng.random() < 0.5 * difficulty.clutter:
        _small_object(rng, x, y, image)  # in front of the shape, sometimes hiding a part of it
    image *= _light(rng, x, y)
    if difficulty.noise > 0:
        sigma = difficulty.noise * rng.random()
        image += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    np.clip(image, 0, 1, out=image)
    picture = np.ascontiguousarray((image * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    return picture, inside


# ---- colours ----


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _colour(rng: np.random.Generator, low: float = 0.1, high: float = 1.0) -> Colour:
    """Any hue, with a brightness (the V of HSV) between `low` and `high`."""
    return colorsys.hsv_to_rgb(rng.random(), _between(rng, 0.1, 0.95), _between(rng, low, high))


def _colour_apart(
    rng: np.random.Generator, others: list[Colour], distance: float, low: float = 0.1
) -> Colour:
    """A random colour at least `distance` from every other one (the best of 20 draws)."""
    best, best_distance = _colour(rng, low), -1.0
    for _ in range(20):
        candidate = _colour(rng, low)
        nearest = min(math.dist(candidate, other) for other in others)
        if nearest > best_distance:
            best, best_distance = candidate, nearest
        if nearest >= distance:
            break
    return best


def _mix(start: Colour, end: Colour, amount: Plane) -> Plane:
    """(3, S, S): `start` where amount is 0, `end` where it is 1."""
    planes = [a + (b - a) * amount for a, b in zip(start, end, strict=True)]
    return np.stack(planes)


# ---- background, clutter, light ----


def _background(
    rng: np.random.Generator, x: Plane, y: Plane, difficulty: Difficulty
) -> tuple[list[Colour], Plane]:
    """The two colours of the background, and its picture."""
    first, other = _colour(rng, 0.1, 0.6), _colour(rng, 0.1, 0.6)
    strength = difficulty.clutter * rng.random()
    second = tuple(a + (b - a) * strength for a, b in zip(first, other, strict=True))
    kind = int(rng.random() * 5)
    if kind == 0:
        amount = np.clip(_slope(rng, x, y) * 0.5 + 0.5, 0, 1)
    elif kind in (1, 2):
        cells = 3 if kind == 1 else 9
        grains = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        amount = np.asarray(grains.resize((x.shape[1], x.shape[0]), Image.Resampling.BICUBIC))
    else:
        texture = TEXTURES["striped" if kind == 3 else "checkered"]
        u, v = _turned(rng, x, y)
        amount = texture(u, v, _between(rng, 0.15, 0.6), 2 / x.shape[0])
    return [first, second], _mix(first, second, amount)  # type: ignore[list-item,arg-type]


def _small_object(rng: np.random.Generator, x: Plane, y: Plane, image: Plane) -> None:
    """Paint a small plain ellipse or bar somewhere; it belongs to no class."""
    u, v = _turned(rng, x - _between(rng, -1, 1), y - _between(rng, -1, 1))
    long, wide = _between(rng, 0.08, 0.28), _between(rng, 0.04, 0.1)
    if rng.random() < 0.5:
        distance = (np.sqrt((u / long) ** 2 + (v / wide) ** 2) - 1) * wide
    else:
        distance = np.maximum(np.abs(u) - long, np.abs(v) - wide)
    _paint(image, cover(distance, 2 / x.shape[0]), _colour(rng))


def _light(rng: np.random.Generator, x: Plane, y: Plane) -> Plane:
    """Brightness (S, S) falling across the picture in a random direction."""
    return _between(rng, 0.75, 1.1) + _between(rng, 0, 0.25) * _slope(rng, x, y)


def _slope(rng: np.random.Generator, x: Plane, y: Plane) -> Plane:
    angle = rng.random() * 2 * math.pi
    return math.cos(angle) * x + math.sin(angle) * y


def _turned(
    rng: np.random.Generator, x: Plane, y: Plane, most: float = 180.0
) -> tuple[Plane, Plane]:
    """The coordinates turned by up to `most` degrees either way."""
    angle = math.radians(_between(rng, -most, most))
    c, s = math.cos(angle), math.sin(angle)
    return c * x + s * y, c * y - s * x


def _paint(image: Plane, inside: Plane, colour: Colour) -> None:
    for plane, value in zip(image, colour, strict=True):
        plane += inside * (value - plane)


# ---- the shape that makes the class ----


def _target(
    rng: np.random.Generator,
    x: Plane,
    y: Plane,
    image: Plane,
    class_: tuple[str, str],
    ground: list[Colour],
    difficulty: Difficulty,
) -> Plane:
    """Paint the textured shape, with a soft shadow around it, into the picture; what it covers."""
    radius = _between(rng, difficulty.min_scale, difficulty.max_scale)
    room = max(0.0, 1 - radius)
    most = difficulty.rotation
    u, v = _turned(rng, x - _between(rng, -room, room), y - _between(rng, -room, room), most)
    stretch = _between(rng, 0.88, 1.12)
    u, v = u / (radius * stretch), v * (stretch / radius)
    pixel = 2 / (x.shape[0] * radius)
    distance = SHAPES[class_[0]](u, v)
    first = _colour_apart(rng, ground, difficulty.contrast, 0.6)
    second = _colour_apart(rng, [first, *ground], difficulty.contrast)
    period = max(_between(rng, 0.42, 0.6), 5 * pixel)
    turned = _turned(rng, u + rng.random(), v + rng.random(), most)
    amount = TEXTURES[class_[1]](*turned, period, pixel)
    inside = cover(distance, pixel)
    image *= 1 - _between(rng, 0, 0.5) * np.exp(-np.maximum(distance, 0) * 8)
    image += inside * (_mix(first, second, amount) - image)
    return inside
