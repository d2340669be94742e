"""The shapes and textures of the shapes data set, as functions of a pair of coordinates.

A shape is a signed distance, negative inside, in units of its own radius; a texture is an amount
between two colours, 0 to 1. Edges are anti-aliased from the distance, without supersampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def cover(distance: Plane, pixel: float) -> Plane:
    """How much of each pixel lies inside: 1 inside, 0 outside, a ramp one pixel wide."""
    return (0.5 - distance / pixel).clip(0, 1)


def _ring(u: Plane, v: Plane) -> Plane:
    return np.abs(np.hypot(u, v) - 0.7) - 0.3


def _triangle(u: Plane, v: Plane) -> Plane:
    side = 0.866 * np.abs(u) - 0.5 * v
    return np.maximum(side, v) - 0.58


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def _cross(u: Plane, v: Plane) -> Plane:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(a, b) - 0.33, np.maximum(a, b) - 1)


def _star(u: Plane, v: Plane) -> Plane:
    """Five points: the angle folded onto half a point, then the distance to its one edge."""
    tip, valley, fold = 1.12, 0.52, math.pi / 5
    angle = np.abs((np.arctan2(v, u) + fold) % (2 * fold) - fold)
    r = np.hypot(u, v)
    dx, dy = valley * math.cos(fold) - tip, valley * math.sin(fold)
    length = math.hypot(dx, dy)
    distance: Plane = ((r * np.cos(angle) - tip) * dy - r * np.sin(angle) * dx) / length
    return distance


SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.95,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "cross": _cross,
    "star": _star,
}


def _striped(u: Plane, v: Plane, period: float, pixel: float) -> Plane:
    turn = 2 * math.pi / period
    return cover(np.sin(u * turn) / turn, pixel)


def _checkered(u: Plane, v: Plane, period: float, pixel: float) -> Plane:
    turn = 2 * math.pi / period / 1.3
    return cover(np.sin(u * turn) * np.sin(v * turn) / turn, pixel)


def _dotted(u: Plane, v: Plane, period: float, pixel: float) -> Plane:
    du, dv = u % period - period / 2, v % period - period / 2
    return cover(np.hypot(du, dv) - 0.3 * period, pixel)


TEXTURES: dict[str, Callable[[Plane, Plane, float, float], Plane]] = {
    "solid": lambda u, v, period, pixel: np.zeros_like(u),
    "striped": _striped,
    "checkered": _checkered,
    "dotted": _dotted,
}
