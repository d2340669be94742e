"""Preprocessing of LV-ViT: shorter side to size / crop_pct (T, S: 248 for 224), then the centre."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mindformers_vit.data.fields import Size
from mindformers_vit.models.image_processor import ImageProcessor, Processor

if TYPE_CHECKING:
    from typing_extensions import Self


class LVViTImageProcessor(ImageProcessor):
    """See `ImageProcessor`; the border that is cut off comes from the network's `crop_pct`."""

    resize: Size | None = 248


class LVViTProcessor(Processor):
    """See `Processor`."""

    image_processor: LVViTImageProcessor = LVViTImageProcessor()

    @classmethod
    def for_network(
        cls,
        config: Any,
        settings: Mapping[str, Any] | None = None,
        path: str = "processor.image_processor",
    ) -> Self:
        """As `Processor.for_network`; without `resize` the shorter side gets size / crop_pct."""
        height, width = (int(side / config.crop_pct) for side in config.image_hw)
        resize = height if isinstance(config.image_size, int) else (height, width)
        values = {"resize": resize, **(settings or {})}
        return super().for_network(config, values, path)
