"""Preprocessing of the classifier: shorter side to 256, centre 224, ImageNet statistics."""

from __future__ import annotations

from mindformers_vit.models.image_processor import ImageProcessor, Processor


class ViTImageProcessor(ImageProcessor):
    """See `ImageProcessor`; the name that MindFormers' yaml has."""


class ViTProcessor(Processor):
    """See `Processor`; the name that MindFormers' yaml has."""

    image_processor: ViTImageProcessor = ViTImageProcessor()
