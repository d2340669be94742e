"""Preprocessing of sMLPNet: shorter side to 256, centre 224, ImageNet statistics."""

from __future__ import annotations

from typing import ClassVar

from mindformers_vit.models.image_processor import ImageProcessor, Processor


class SMLPNetImageProcessor(ImageProcessor):
    """See `ImageProcessor`."""


class SMLPNetProcessor(Processor):
    """See `Processor`."""

    image_processor_class: ClassVar[type[ImageProcessor]] = SMLPNetImageProcessor
    image_processor: SMLPNetImageProcessor = SMLPNetImageProcessor()
