"""`deploy preprocess`."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from mindformers_vit.deploy.commands import count
from mindformers_vit.deploy.model_manifest import read_model_manifest
from mindformers_vit.deploy.preprocess import preprocess
from mindformers_vit.models.auto import AutoProcessor
from mindformers_vit.registry import find_arch

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, help="exported file, model name, model directory or yaml")
    add("--image_dir", type=Path, required=True, help="images, flat or in class folders")
    add("--output", type=Path, required=True, help="new folder for the input files")
    add("--batch_size", type=count, default=1, metavar="N", help="images of a file")
    add("--naming", choices=("number", "stem"), default="number",
        help="input_00000.bin, or the image's own name")  # fmt: skip
    add("--pixels", choices=("normalised", "uint8"), help="default: what the exported file takes")
    add("--num_workers", type=int, default=os.cpu_count() or 1, metavar="N")
    add("--num_samples", type=count, metavar="N", help="only so many images")


def run(arguments: argparse.Namespace) -> None:
    processor, pixels, id2label = find_processor(arguments.model)
    made = preprocess(
        processor,
        arguments.image_dir,
        arguments.output,
        batch_size=arguments.batch_size,
        naming=arguments.naming,
        pixels=arguments.pixels or pixels,
        num_workers=arguments.num_workers,
        num_samples=arguments.num_samples,
        id2label=id2label,
    )
    logger.info("%d images in %d files in %s", made.num_images, len(made.files), arguments.output)


def find_processor(model: str) -> tuple[Any, Any, dict[int, str] | None]:
    """The model's own processor, the kind of pixels that it is to make, names of the classes."""
    if Path(model).suffix not in (".onnx", ".mindir", ".air"):
        return AutoProcessor.from_pretrained(model), "normalised", None
    manifest = read_model_manifest(model)
    processor_class = find_arch(manifest.arch).load_processor_class()
    return processor_class.from_dict(manifest.processor), manifest.pixels, manifest.id2label
