"""Networks and a processor that a pipeline can be tested with, without MindSpore."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mindformers_vit.pipelines.pictures import EPSILON, patchify

PATCH = 4


@dataclass(frozen=True)
class Config:
    patch_size: int = PATCH
    mask_ratio: float = 0.75
    norm_pix_loss: bool = False


@dataclass(frozen=True)
class LabelConfig:
    id2label: dict = field(default_factory=dict)


class Processor:
    """Squash to (height, width), normalise."""

    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

    def __init__(self, height: int = 16, width: int = 16) -> None:
        self.size = (height, width)

    def __call__(self, images: list[Image.Image]) -> np.ndarray:
        height, width = self.size
        stack = np.stack([np.asarray(image.resize((width, height))) for image in images])
        values = (stack.astype(np.float32) / 255 - self.mean) / self.std
        return values.transpose(0, 3, 1, 2).astype(np.float32)


class PerfectMAE:
    """Predicts every patch exactly (normalised if so configured), plus `error`; keeps its calls."""

    def __init__(self, config: Config = Config(), error: float = 0.0) -> None:
        self.config, self.error = config, error
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        self.shapes.append(pixels.shape)
        target = np.stack([patchify(p.transpose(1, 2, 0), PATCH) for p in pixels])
        if self.config.norm_pix_loss:
            var = target.var(-1, ddof=1, keepdims=True)
            target = (target - target.mean(-1, keepdims=True)) / np.sqrt(var + EPSILON)
        keep = int(noise.shape[1] * (1 - self.config.mask_ratio))
        mask = (noise.argsort(1).argsort(1) >= keep).astype(np.float32)
        pred = target + self.error
        return np.float32(0), pred, mask


class Classifier:
    """The mean of channel k is the logit of class k."""

    def __init__(self, id2label: dict | None = None) -> None:
        self.config = LabelConfig(id2label or {})
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.shapes.append(pixels.shape)
        return pixels.mean((2, 3), dtype=np.float64)


def coloured(colour: tuple[int, int, int], size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.new("RGB", size, colour)


def noisy(seed: int, size: tuple[int, int] = (20, 12)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)
