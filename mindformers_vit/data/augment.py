"""RandAugment (arXiv:1909.13719) as timm 0.3-0.5 defines it (`timm/data/auto_augment.py`).

"rand-m9-mstd0.5-inc1": draw 2 of 15 operations with replacement, do each with probability 0.5 at
a magnitude from N(9, 0.5) clipped to [0, 10]; "inc1" takes the set whose strength rises with the
magnitude. Uncovered pixels are filled with `img_mean`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from PIL.Image import Image, Resampling
from pydantic import Field, field_validator

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.data.augment_ops import INCREASING_OPS, MAX_MAGNITUDE, OPS, Fill, Op
from mindformers_vit.data.fields import RESAMPLING, RandomInterpolation, Transform, resampling
from mindformers_vit.data.label_maps import LabelView
from mindformers_vit.registry import transforms

OP_PROBABILITY = 0.5


@dataclass(frozen=True)
class Policy:
    """A parsed "rand-..." string."""

    magnitude: float = MAX_MAGNITUDE
    magnitude_std: float = 0.0  # above 100: magnitude uniform in [0, magnitude]
    num_ops: int = 2
    increasing: bool = False

    @property
    def ops(self) -> tuple[Op, ...]:
        return INCREASING_OPS if self.increasing else OPS

    def draw_magnitude(self, rng: np.random.Generator) -> float:
        drawn = self.magnitude
        if self.magnitude_std > 100:
            drawn = rng.uniform(0, self.magnitude)
        elif self.magnitude_std > 0:
            drawn = rng.normal(self.magnitude, self.magnitude_std)
        return min(MAX_MAGNITUDE, max(0.0, drawn))


@lru_cache(maxsize=64)
def parse_policy(text: str) -> Policy:
    """ "rand-m9-n3-mstd0.5-inc1" as a Policy; ValueError for anything it does not know."""
    first, *parts = text.split("-")
    values: dict[str, float] = {}
    allowed = "'rand' with any of -m<0..10> -n<ops> -mstd<number> -inc1"
    for part in parts:
        match = re.fullmatch(r"(m|n|mstd|inc)(\d+(?:\.\d+)?)", part)
        if match is None or match[1] in values:
            raise ValueError(f"section '{part}' of {text!r} is not understood; allowed: {allowed}")
        values[match[1]] = float(match[2])
    count = values.get("n", 2)
    if first != "rand" or values.get("m", 0) > MAX_MAGNITUDE or count < 1 or count != int(count):
        raise ValueError(f"expected {allowed}, given {text!r}")
    if values.get("inc", 1) != 1:
        raise ValueError(f"{text!r}: write inc1 or leave it out (timm reads any inc as inc1)")
    return Policy(
        magnitude=values.get("m", MAX_MAGNITUDE),
        magnitude_std=values.get("mstd", 0.0),
        num_ops=int(count),
        increasing="inc" in values,
    )


class RandAugmentParams(StrictModel):
    """`hparams` of MindFormers and timm."""

    translate_const: float | None = None
    """Pixels; accepted and without effect: the operations of "rand" translate by a fraction."""
    img_mean: tuple[float, float, float] = (128, 128, 128)
    """Colour of uncovered pixels, 0..255."""
    interpolation: RandomInterpolation = "random"

    @field_validator("img_mean")
    @classmethod
    def _is_colour(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not 0 <= min(value) <= max(value) <= 255 or 0 < max(value) <= 1:
            raise ValueError(f"expected a colour in 0..255, given {list(value)}")
        return value

    @field_validator("interpolation")
    @classmethod
    def _can_warp(cls, value: str) -> str:
        warps = {Resampling.NEAREST, Resampling.BILINEAR, Resampling.BICUBIC}
        if value != "random" and RESAMPLING[value] not in warps:
            raise ValueError(f"expected nearest, bilinear, bicubic or random, given {value!r}")
        return value

    @property
    def fill(self) -> Fill:
        red, green, blue = (round(value) for value in self.img_mean)
        return red, green, blue


@transforms.register("rand_augment_transform")
class RandAugment(Transform):
    """RandAugment on a Pillow image; see the module's text."""

    config_str: str
    hparams: RandAugmentParams = Field(default_factory=RandAugmentParams)
    moves_pixels: ClassVar[bool] = True

    @field_validator("config_str")
    @classmethod
    def _parses(cls, value: str) -> str:
        parse_policy(value)
        return value

    @property
    def policy(self) -> Policy:
        return parse_policy(self.config_str)

    def __call__(
        self, image: Image, rng: np.random.Generator, view: LabelView | None = None
    ) -> Image:
        ops = self.policy.ops
        for choice in rng.integers(len(ops), size=self.policy.num_ops):
            if rng.random() < OP_PROBABILITY:
                image = self.apply(ops[choice], image, rng, view)
        return image

    def apply(
        self, op: Op, image: Image, rng: np.random.Generator, view: LabelView | None = None
    ) -> Image:
        """One operation at a drawn magnitude, sign and interpolation."""
        strength = op.strength(self.policy.draw_magnitude(rng))
        if op.signed and rng.random() < 0.5:
            strength = -strength
        how = resampling(self.hparams.interpolation, rng)
        if view is not None and op.matrix is not None:
            view.warp(op.matrix(image.size, strength), image.size)
        return op.apply(image, strength, self.hparams.fill, how)
