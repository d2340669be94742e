"""Imports every task, so that the registry knows them all; a new task is one file and one line."""

from mindformers_vit.pipelines import image_classification, masked_image_modeling

__all__ = ["image_classification", "masked_image_modeling"]
