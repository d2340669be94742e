"""Put loaded weights into a network, strictly: what does not fit is an error unless named.

Exceptions are regular expressions that must match a whole name. A pattern that matches no name at
all is an error too, since it is most likely misspelt; write "?pattern" for one that may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindformers_vit.errors import CheckpointError

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Resize = Callable[[Array, Shape], Array]

_LISTED = 40  # names printed of one kind of problem


@dataclass(frozen=True)
class MergeReport:
    """Names, sorted: where each tensor of the network came from, and what the file had besides."""

    loaded: tuple[str, ...]  # taken as they are
    resized: tuple[str, ...]  # taken, after a resize function
    new: tuple[str, ...]  # in the network only, or of another shape and allowed to be new
    unused: tuple[str, ...]  # in the file only, or not taken because of their shape

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for word in ("resized", "new", "unused"):
            names = getattr(self, word)
            if names:
                parts.append(f"{len(names)} {word} ({', '.join(_grouped(names))})")
        return ", ".join(parts)


def _grouped(names: Iterable[str]) -> list[str]:
    """Every name, those of repeated blocks as one: "blocks.*.norm1.gamma x12"."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(name)
    return [f"{key} x{len(all_)}" if len(all_) > 1 else all_[0] for key, all_ in found.items()]


class _Patterns:
    """The patterns of one option, and those of them that match no name at all."""

    def __init__(self, option: str, patterns: Iterable[str], names: Iterable[str]) -> None:
        self._compiled = {p: _compile(p.removeprefix("?"), option) for p in patterns}
        seen = {p for name in names for p, c in self._compiled.items() if c.fullmatch(name)}
        self.problems = [
            f"  {option}: '{p}' matches no name (write '?{p}' if that is meant)"
            for p in self._compiled
            if p not in seen and not p.startswith("?")
        ]

    def match(self, name: str) -> str | None:
        """The first pattern that matches the whole name."""
        return next((p for p, c in self._compiled.items() if c.fullmatch(name)), None)


def merge(
    loaded: Mapping[str, Array],
    expected: Mapping[str, Shape],
    *,
    allow_new: Iterable[str] = (),
    allow_unused: Iterable[str] = (),
    resize: Mapping[str, Resize] | None = None,
) -> tuple[dict[str, Array], MergeReport]:
    """The tensors of `loaded` that belong into a network with the shapes `expected`.

    Args:
        loaded: name -> array, as a weight file gives them.
        expected: name -> shape of every tensor of the network.
        allow_new: patterns of the network's names that may keep their initial value: the file
            lacks them, or has them with another shape (a head for another number of classes).
        allow_unused: patterns of the file's names that may be left over.
        resize: pattern -> function(array, shape) -> array, for shapes that differ.

    Returns:
        name -> array to load (without the new ones; types as in the file), and the report.

    Raises:
        CheckpointError: with every name that is missing (-), left over (+) or of another
            shape (~), and every pattern that matches nothing.
    """
    resize = dict(resize or {})
    may_be_new = _Patterns("allow_new", allow_new, expected)
    may_be_left = _Patterns("allow_unused", allow_unused, loaded)
    resizable = _Patterns("resize", resize, expected)

    fits = {n for n, shape in expected.items() if n in loaded and loaded[n].shape == tuple(shape)}
    differs = [n for n in expected if n in loaded and n not in fits]
    resized = {n: pattern for n in differs if (pattern := resizable.match(n)) is not None}
    new = {n for n in expected if n not in fits and n not in resized and may_be_new.match(n)}
    left = [n for n in loaded if n not in expected]
    _raise_if_any(
        minus=[f"{n} {tuple(expected[n])}" for n in expected if n not in loaded and n not in new],
        plus=[f"{n} {loaded[n].shape}" for n in left if may_be_left.match(n) is None],
        tilde=[
            f"{n}: file {loaded[n].shape}, network {tuple(expected[n])}"
            for n in differs
            if n not in resized and n not in new
        ],
        patterns=may_be_new.problems + may_be_left.problems + resizable.problems,
    )
    arrays = {n: loaded[n] for n in expected if n in fits}
    for name, pattern in resized.items():
        arrays[name] = _resized(name, loaded[name], tuple(expected[name]), resize[pattern])
    unused = {*left, *(n for n in new if n in loaded)}
    return arrays, MergeReport(*(tuple(sorted(x)) for x in (fits, resized, new, unused)))


def _compile(pattern: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise CheckpointError(f"{option}: '{pattern}' is no regular expression: {error}") from error


def _resized(name: str, array: Array, shape: Shape, function: Resize) -> Array:
    result = function(array, shape)
    if result.shape != shape:
        raise CheckpointError(f"resizing '{name}' gave {result.shape}, the network has {shape}")
    return result


def _raise_if_any(
    *, minus: list[str], plus: list[str], tilde: list[str], patterns: list[str]
) -> None:
    lines: list[str] = []
    for title, sign, found in (
        ("in the network, not in the file (-)", "  - ", minus),
        ("in the file, not in the network (+)", "  + ", plus),
        ("of another shape (~)", "  ~ ", tilde),
        ("patterns", "", patterns),
    ):
        if found:
            lines += [f"{len(found)} {title}:", *(sign + line for line in found[:_LISTED])]
            lines += [f"  ... {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    if lines:
        raise CheckpointError("the weights do not fit the network:\n" + "\n".join(lines))
