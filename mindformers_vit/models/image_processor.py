"""Pictures to network input: resize, centre crop, normalise. No MindSpore here.

The same preprocessing as in evaluation, made of `mindformers_vit.data`'s transforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.config.strict import StrictModel, validate
from mindformers_vit.data.arrays import Normalize, ToTensor
from mindformers_vit.data.fields import Deviations, Interpolation, Size, height_width
from mindformers_vit.data.geometry import CenterCrop, Resize
from mindformers_vit.data.rng import sample_rng
from mindformers_vit.data.transforms import Compose
from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.tools.image_tools import load_image

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP_FRACTION = 0.875  # 224 of 256


class ImageProcessor(StrictModel):
    """`processor(images) -> (B, C, H, W)` float32.

    Sizes in pixels, an int or [height, width]; mean and std in units of 0..1, RGB.
    """

    size: Size = 224  # what the network takes; the centre is cut out
    resize: Size | None = None  # of the shorter side before; None: size / 0.875 up to 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: Deviations = IMAGENET_STD
    interpolation: Interpolation = "bicubic"

    @property
    def resize_to(self) -> Size:
        """`resize`, or what its absence means: 256 for 224; the size itself above 224."""
        if self.resize is not None:
            return self.resize
        if not isinstance(self.size, int):
            height, width = (_enlarged(side, max(self.size)) for side in self.size)
            return height, width
        return _enlarged(self.size, self.size)

    @property
    def transforms(self) -> Compose:
        """The steps, for the loader."""
        return Compose(
            [
                Resize(size=self.resize_to, interpolation=self.interpolation),
                CenterCrop(size=self.size),
                ToTensor(),
                Normalize(mean=self.mean, std=self.std, is_hwc=False),
            ]
        )

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """Path, URL, PIL image, uint8 array (H, W, 3), or a list of them -> (B, 3, H, W).

        Raises:
            DataError: an image cannot be read, or the list is empty.
        """
        listed = list(images) if _is_many(images) else [images]
        if not listed:
            raise DataError("no images given")
        steps, rng = self.transforms, sample_rng(0, 0, 0, "processor")
        return np.stack([steps(load_image(image), rng) for image in listed])  # (B, 3, H, W)

    def to_dict(self) -> dict[str, Any]:
        """The yaml's section, in plain types."""
        values = self.model_dump()
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"type": type(self).__name__, **plain}


class Processor(StrictModel):
    """The yaml's `processor` section: `{type, image_processor: {type, size, mean, ...}}`."""

    image_processor: ImageProcessor

    @classmethod
    def image_processor_class(cls) -> Any:
        """The class of `image_processor`."""
        return cls.model_fields["image_processor"].annotation

    @property
    def transforms(self) -> Compose:
        return self.image_processor.transforms

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.image_processor.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.image_processor.std

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """As `ImageProcessor.__call__`."""
        return self.image_processor(images)

    @classmethod
    def for_network(
        cls,
        config: VisionConfig,
        settings: Mapping[str, Any] | None = None,
        path: str = "processor.image_processor",
    ) -> Self:
        """The processor for a network's image size; `settings` are the yaml's.

        Raises:
            ConfigError: with every problem, or if `size` is not the network's.
        """
        values = dict(settings or {})
        kind = cls.image_processor_class()
        wanted = kind.__name__
        given = values.pop("type", wanted)
        if given != wanted:
            raise ConfigError(f"{path}.type: '{given}' given, allowed: '{wanted}'")
        values.setdefault("size", config.image_size)
        inner = validate(kind, values, path)
        if height_width(inner.size) != config.image_hw:
            raise ConfigError(
                f"{path}.size: {inner.size} given, but the network takes {config.image_size}"
            )
        return cls(image_processor=inner)

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """From what `to_dict` gives.

        Raises:
            ConfigError: with every problem.
        """
        given = section.get("type", cls.__name__)
        if given != cls.__name__:
            raise ConfigError(f"processor.type: '{given}' given, allowed: '{cls.__name__}'")
        values = {k: v for k, v in (section.get("image_processor") or {}).items() if k != "type"}
        inner = validate(cls.image_processor_class(), values, "processor.image_processor")
        return cls(image_processor=inner)

    def to_dict(self) -> dict[str, Any]:
        """The yaml's section, in plain types."""
        return {"type": type(self).__name__, "image_processor": self.image_processor.to_dict()}

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """The processor that belongs to a model; see `AutoProcessor`."""
        from mindformers_vit.models.auto import AutoProcessor

        found = AutoProcessor.from_pretrained(name_or_path)
        if not isinstance(found, cls):
            raise ConfigError(
                f"'{name_or_path}' has a {type(found).__name__}, no {cls.__name__}; "
                f"use {type(found).__name__} or AutoProcessor"
            )
        return found


def _enlarged(side: int, longest: int) -> int:
    return int(side / CROP_FRACTION) if longest <= 224 else side


def _is_many(images: Any) -> bool:
    return isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
