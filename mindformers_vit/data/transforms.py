"""The `transforms` list of a yaml becomes one callable: Pillow image -> (3, H, W) float32.

The names are MindFormers'; `{type: NAME, key: value, ...}` each. Registered in
`mindformers_vit.registry.transforms`; a plug-in registers a `Transform` class the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image, new

from mindformers_vit.config.strict import validate
from mindformers_vit.data import augment, geometry  # noqa: F401 - they register their transforms
from mindformers_vit.data.arrays import HWC2CHW, Array, Float, Normalize, RandomErasing, ToTensor
from mindformers_vit.data.fields import Layout, Transform
from mindformers_vit.data.label_maps import LabelView
from mindformers_vit.data.pixels import normalize
from mindformers_vit.data.rng import sample_rng
from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import transforms as registry


class Compose:
    """Steps one after the other; `into` writes the result to a given array, mostly in place."""

    def __init__(self, steps: Sequence[Transform]) -> None:
        self.steps = tuple(steps)
        self._table: Float | None = None  # of `_before`'s pixels to what `_after` is given
        self._before: tuple[Transform, ...] = self.steps
        self._after: tuple[RandomErasing, ...] = ()
        self._fuse()

    def _fuse(self) -> None:
        for i, pair in enumerate(zip(self.steps, self.steps[1:], strict=False)):
            rest = self.steps[i + 2 :]
            erasing = tuple(step for step in rest if type(step) is RandomErasing)
            table = _table(*pair)
            if table is not None and len(erasing) == len(rest):
                self._table, self._before, self._after = table, self.steps[:i], erasing

    def __call__(self, image: Image, rng: np.random.Generator) -> Array:
        """The plain meaning: each step's result is the next one's input."""
        result: Any = image
        for step in self.steps:
            result = step(result, rng)
        return np.asarray(result)

    def into(
        self, image: Image, rng: np.random.Generator, out: Float, view: LabelView | None = None
    ) -> None:
        """Write `self(image, rng)` to `out` (3, H, W); ValueError if the shape differs.

        A view of the image's label map is told of every step that moves pixels.
        """
        result: Any = image
        for step in self._before:
            follows = (view,) if step.moves_pixels else ()
            result = step(result, rng, *follows)
        shape = result.shape if self._table is None else (3, result.height, result.width)
        if shape != out.shape:
            raise ValueError(f"transforms gave shape {shape}, the batch has {out.shape}")
        if self._table is None:
            np.copyto(out, result)
            return
        normalize(result, self._table, out)
        for erasing in self._after:
            erasing.erase(out, rng)

    def output_shape(self) -> tuple[int, int, int]:
        """(3, H, W), found by trial; ConfigError if it depends on the size of the image."""
        rng = sample_rng(0, 0, 0, "trial")
        shapes = [self(new("RGB", size), rng).shape for size in ((317, 211), (211, 317))]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3:
            raise ConfigError(
                "transforms: the shape of the result depends on the image, so no batch can be "
                "made; add CenterCrop, RandomResizedCrop or Resize with size: [height, width]"
            )
        return shapes[0]


def _table(first: Transform, second: Transform) -> Float | None:
    """What two steps from pixels to normalised numbers make of each value: (3, 256)."""
    scaled = type(first) is ToTensor and type(second) is Normalize and not second.is_hwc
    plain = type(first) is Normalize and first.is_hwc and type(second) is HWC2CHW
    if not scaled and not plain:
        return None
    values = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)  # (1, 256, 3)
    rng = sample_rng(0, 0, 0, "not drawn from")
    return np.ascontiguousarray(second(first(values, rng), rng)[:, 0])


def build_transforms(items: Sequence[Any], path: str = "transforms") -> Compose:
    """The pipeline of a list of `{type: NAME, **arguments}`.

    Raises:
        ConfigError: with every problem of every item, each beginning `path.N.key`.
    """
    problems: list[str] = []
    steps: list[Transform] = []
    for number, item in enumerate(items):
        try:
            steps.append(_build_one(item, f"{path}.{number}"))
        except ConfigError as error:
            problems += error.problems
    if not problems:
        problems = _order_problems(steps, path)
    if problems:
        raise ConfigError(problems)
    return Compose(steps)


def _build_one(item: Any, where: str) -> Transform:
    if isinstance(item, Transform):
        return item
    if not isinstance(item, dict) or "type" not in item:
        raise ConfigError(f"{where}: expected {{type: NAME, ...}}, given {item!r}")
    try:
        cls = registry.get(str(item["type"]))
    except ConfigError as error:
        raise ConfigError(f"{where}.type: {error}") from None
    step: Transform = validate(cls, {k: v for k, v in item.items() if k != "type"}, where)
    return step


def _order_problems(steps: Sequence[Transform], path: str) -> list[str]:
    """The first step that cannot take what it is given, or a list that ends too early."""
    layout: Layout = "image"
    for number, step in enumerate(steps):
        try:
            layout = step.layout(layout)
        except ValueError as error:
            return [f"{path}.{number} ({type(step).__name__}): {error}"]
    if layout != "CHW":
        return [f"{path}: must end with ToTensor (or HWC2CHW) and Normalize, ends with {layout}"]
    return []
