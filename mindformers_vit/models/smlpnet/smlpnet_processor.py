"""Preprocessing of sMLPNet: shorter side to 256, centre 224, ImageNet statistics."""

from __future__ import annotations

from mindformers_vit.models.image_processor import ImageProcessor, Processor


class SMLPNetImageProcessor(ImageProcessor):
    """See `ImageProcessor`."""


class SMLPNetProcessor(Processor):
    """See `Processor`."""

    image_processor: SMLPNetImageProcessor = SMLPNetImageProcessor()
