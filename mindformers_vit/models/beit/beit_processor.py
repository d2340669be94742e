"""Preprocessing of BEiT: mean and std 0.5; shorter side to 256 for 224, to the size itself above.

BEiT v2, and v1 pretrained on 1000 classes, take ImageNet's statistics: set them in the yaml.
"""

from __future__ import annotations

from mindformers_vit.data.fields import Deviations
from mindformers_vit.models.image_processor import ImageProcessor, Processor

HALF = (0.5, 0.5, 0.5)


class BeitImageProcessor(ImageProcessor):
    """See `ImageProcessor`."""

    mean: tuple[float, float, float] = HALF
    std: Deviations = HALF


class BeitProcessor(Processor):
    """See `Processor`."""

    image_processor: BeitImageProcessor = BeitImageProcessor()
