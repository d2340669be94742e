"""Small images, folders, and a generator whose draws a test chooses."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mindformers_vit.data.batches import Batch
from mindformers_vit.data.fields import Transform

NORMALIZE = {
    "type": "Normalize",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "is_hwc": False,
}
TRAIN = [
    {"type": "RandomResizedCrop", "size": 16, "interpolation": "cubic"},
    {"type": "RandomHorizontalFlip", "prob": 0.5},
    {"type": "rand_augment_transform", "config_str": "rand-m9-mstd0.5-inc1"},
    {"type": "ToTensor"},
    NORMALIZE,
    {"type": "RandomErasing", "probability": 0.25, "mode": "pixel", "max_count": 1},
]
EVAL = [{"type": "Resize", "size": 18}, {"type": "CenterCrop", "size": 16}, *TRAIN[3:5]]


def picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(seed, 20 + seed % 7, 18 + seed % 5).save(root / name / f"{number}.png")
            seed += 1
    return root


class Draws:
    """Stands in for a Generator: gives the listed numbers, whatever is asked for."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def _next(self, *args: Any, **kwargs: Any) -> Any:
        return self.values.pop(0)

    random = uniform = integers = normal = beta = _next


class TellModules(Transform):
    """Fails in any process but `parent`, with what that process has imported."""

    parent: int

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        if os.getpid() == self.parent:
            return image
        main = getattr(sys.modules["__main__"], "__file__", None)
        raise ValueError(f"mindspore={'mindspore' in sys.modules} main={main}")


class Sleep(Transform):
    """Takes its time, as a large image does."""

    seconds: float

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        time.sleep(self.seconds)
        return image


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(first, second, strict=True)
    )
