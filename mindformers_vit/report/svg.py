"""Curves as inline SVG: no library, no script, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindformers_vit.report.html import text

WIDTH, HEIGHT = 360, 210  # of the drawing; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_POINTS = 240  # most that a curve is drawn with
_TICKS = 5  # about so many on an axis
COLOURS = 6  # classes c0 .. c5 of the style sheet


@dataclass(frozen=True)
class Curve:
    """One line: (x, y) pairs in the order of x, y finite."""

    name: str
    points: Sequence[tuple[float, float]]
    marked: bool = False  # every point is shown, with its value when pointed at


@dataclass(frozen=True)
class Bucket:
    """Neighbouring points drawn as one."""

    x: float
    y: float  # mean
    low: float
    high: float


def thin(points: Sequence[tuple[float, float]]) -> list[Bucket]:
    """At most `_POINTS` buckets of equally many neighbours each."""
    size = math.ceil(len(points) / _POINTS)
    found = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ys = [y for _, y in part]
        mean_x = sum(x for x, _ in part) / len(part)
        found.append(Bucket(mean_x, sum(ys) / len(ys), min(ys), max(ys)))
    return found


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def short(value: float) -> str:
    """A number as an axis shows it: 1200 -> 1.2k, 0.0015 -> 1.5e-3."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.4g}k"
    if abs(value) < 1e-2:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def chart(title: str, curves: Sequence[Curve], *, zero: bool = False) -> str:
    """A figure with a legend where there are several curves; `zero`: the y axis begins at 0."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    thinned = [thin(curve.points) for curve in curves]
    xs = [b.x for buckets in thinned for b in buckets]
    ys = [b.y for buckets in thinned for b in buckets]
    low_x = 0.0 if min(xs) < 0.2 * max(xs) else min(xs)
    low_y, high_y = _range(min(ys), max(ys), zero=zero)
    to_x = _scale(low_x, max(xs), _LEFT, WIDTH - _RIGHT)
    to_y = _scale(low_y, high_y, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(low_x, max(xs), low_y, high_y, to_x, to_y)]
    for place, (curve, buckets) in enumerate(zip(curves, thinned, strict=True)):
        parts.append(_curve(curve, buckets, place % COLOURS, to_x, to_y))
    legend = _legend(curves) if len(curves) > 1 else ""
    return (
        f"<figure><figcaption>{text(title)} <span>by step</span></figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def charts(figures: Sequence[str]) -> str:
    """The figures side by side; nothing without any."""
    drawn = "".join(figures)
    return f"<div class=charts>{drawn}</div>" if drawn else ""


def _range(low: float, high: float, *, zero: bool) -> tuple[float, float]:
    low = min(low, 0.0) if zero else low
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return (low if zero else low - margin), high + margin


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def _axes(
    low_x: float, high_x: float, low_y: float, high_y: float,
    to_x: Callable[[float], float], to_y: Callable[[float], float],
) -> str:  # fmt: skip
    lines = []
    for value in ticks(low_y, high_y):
        y = to_y(value)
        lines.append(f'<path class=grid d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        lines.append(
            f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{short(value)}</text>'
        )
    for value in ticks(low_x, high_x):
        x = to_x(value)
        anchor = "end" if x > WIDTH - _RIGHT - 12 else "middle"
        lines.append(
            f'<text x="{x:.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{short(value)}</text>'
        )
    bottom = HEIGHT - _BOTTOM
    lines.append(f'<path class=axis d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>')
    return "".join(lines)


def _curve(
    curve: Curve, buckets: Sequence[Bucket], colour: int,
    to_x: Callable[[float], float], to_y: Callable[[float], float],
) -> str:  # fmt: skip
    line = " ".join(f"{to_x(b.x):.1f},{to_y(b.y):.1f}" for b in buckets)
    parts = []
    if len(curve.points) > len(buckets):
        above = [f"{to_x(b.x):.1f},{to_y(b.high):.1f}" for b in buckets]
        below = [f"{to_x(b.x):.1f},{to_y(b.low):.1f}" for b in reversed(buckets)]
        parts.append(f'<polygon class="band c{colour}" points="{" ".join(above + below)}"/>')
    parts.append(f'<polyline class="line c{colour}" points="{line}"/>')
    if len(curve.points) == len(buckets) and (curve.marked or len(buckets) == 1):
        parts += [
            f'<circle class="dot c{colour}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="2.6">'
            f"<title>{text(curve.name)}: {y:.6g} at {x:g}</title></circle>"
            for x, y in curve.points
        ]
    return "".join(parts)


def _legend(curves: Sequence[Curve]) -> str:
    items = "".join(
        f"<li class=c{place % COLOURS}>{text(curve.name)}</li>"
        for place, curve in enumerate(curves)
    )
    return f"<ul class=legend>{items}</ul>"
