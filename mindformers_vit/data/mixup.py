"""Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899) on a batch, as timm's `Mixup` does it.

One lambda for the whole batch; the partner of sample i is sample B-1-i; targets are smoothed,
then mixed with the same lambda.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.data.rng import sample_rng

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Mix:
    """One draw: the part `lam` that stays, and for CutMix the box (top, bottom, left, right)."""

    lam: float
    box: tuple[int, int, int, int] | None = None


class Mixup(StrictModel):
    """The `mixup_op` section of a yaml."""

    mixup_alpha: float = Field(1.0, ge=0)
    """Lambda ~ Beta(alpha, alpha) for mixup; 0 is off."""
    cutmix_alpha: float = Field(0.0, ge=0)
    """The same for CutMix."""
    cutmix_minmax: tuple[float, float] | None = None
    """Sides of the CutMix box as fractions [low, high] instead of a Beta draw."""
    prob: float = Field(1.0, ge=0, le=1)
    """Probability that a batch is mixed at all."""
    switch_prob: float = Field(0.5, ge=0, le=1)
    """Probability of CutMix where both are on."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    num_classes: int | None = Field(None, ge=1)
    """None: the loader's."""
    mode: Literal["batch"] = "batch"

    @model_validator(mode="after")
    def _possible(self) -> Mixup:
        if self.cutmix_minmax and not 0 < self.cutmix_minmax[0] < self.cutmix_minmax[1] <= 1:
            raise ValueError(
                f"cutmix_minmax: expected [low, high] with 0 < low < high <= 1, "
                f"given {list(self.cutmix_minmax)}"
            )
        if self.mixup_alpha == 0 and self.cutmix_alpha == 0 and self.cutmix_minmax is None:
            raise ValueError("mixup_alpha and cutmix_alpha are both 0; leave mixup_op out instead")
        return self

    def draw(self, seed: int, epoch: int, step: int, height: int, width: int) -> Mix:
        """What is done to the batch of this step (counted within the epoch)."""
        rng = sample_rng(seed, epoch, step, "mixup")
        if rng.random() >= self.prob:
            return Mix(1.0)
        cut_alpha = 1.0 if self.cutmix_minmax else self.cutmix_alpha
        cut = cut_alpha > 0 and (self.mixup_alpha == 0 or rng.random() < self.switch_prob)
        alpha = cut_alpha if cut else self.mixup_alpha
        lam = float(rng.beta(alpha, alpha))
        if not cut:
            return Mix(lam)
        box = self._draw_box(rng, lam, height, width)
        area = (box[1] - box[0]) * (box[3] - box[2])
        return Mix(1.0 - area / (height * width), box)

    def _draw_box(
        self, rng: np.random.Generator, lam: float, height: int, width: int
    ) -> tuple[int, int, int, int]:
        if self.cutmix_minmax is None:
            side = float(np.sqrt(1.0 - lam))
            return (*_centred(rng, height, side), *_centred(rng, width, side))
        return (*_inside(rng, height, self.cutmix_minmax), *_inside(rng, width, self.cutmix_minmax))


def mix_token_box(
    seed: int, epoch: int, step: int, grid: tuple[int, int]
) -> tuple[int, int, int, int]:
    """MixToken's box of this step in the grid of tokens (arXiv 2104.10858): a share of tokens
    ~ U(0, 1) around a uniform centre, clipped.

    Returns:
        first row, first column, row after the last, column after the last.
    """
    rng = sample_rng(seed, epoch, step, "mix_token")
    side = float(np.sqrt(1.0 - rng.beta(1.0, 1.0)))
    (top, bottom), (left, right) = (_centred(rng, length, side) for length in grid)
    return top, left, bottom, right


def _centred(rng: np.random.Generator, length: int, fraction: float) -> tuple[int, int]:
    """A stretch of that fraction around a uniform centre, clipped to the image."""
    half = int(length * fraction) // 2
    centre = int(rng.integers(length))
    return max(centre - half, 0), min(centre + half, length)


def _inside(rng: np.random.Generator, length: int, minmax: tuple[float, float]) -> tuple[int, int]:
    """A stretch with a uniform length, wholly inside the image."""
    low, high = int(length * minmax[0]), int(length * minmax[1])
    cut = int(rng.integers(low, max(high, low + 1)))
    start = int(rng.integers(length - cut)) if cut < length else 0
    return start, start + cut


def mix_images(images: Float, mix: Mix) -> None:
    """Mix a batch (B, C, H, W), B even, in place: sample i with sample B-1-i."""
    if mix.lam == 1.0:
        return
    keep, take = np.float32(mix.lam), np.float32(1.0 - mix.lam)
    for i in range(len(images) // 2):
        first, second = images[i], images[-1 - i]
        if mix.box is not None:
            top, bottom, left, right = mix.box
            first, second = first[:, top:bottom, left:right], second[:, top:bottom, left:right]
            first[:], second[:] = second.copy(), first.copy()
        else:
            mixed = first * keep + second * take
            second[:] = second * keep + first * take
            first[:] = mixed


def soft_targets(
    labels: NDArray[np.int32], num_classes: int, smoothing: float, lam: float = 1.0
) -> Float:
    """(B, num_classes): smoothed one-hot (off s/C, on 1-s+s/C), mixed with the flipped batch."""
    off = smoothing / num_classes
    target = np.full((len(labels), num_classes), off, np.float32)
    target[np.arange(len(labels)), labels] = 1.0 - smoothing + off
    if lam == 1.0:
        return target
    mixed: Float = target * np.float32(lam) + target[::-1] * np.float32(1.0 - lam)
    return mixed
