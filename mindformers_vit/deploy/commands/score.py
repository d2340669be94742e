"""`deploy score`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mindformers_vit.deploy.commands import count
from mindformers_vit.deploy.score import TOP, score, write_score

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--result", type=Path, required=True, help="folder of results")
    add("--label_file", type=Path, help="<file name> <class index> a line; or")
    add("--image_dir", type=Path, help="class folders")
    add("--input", type=Path, help="folder of the input files, whose manifest names the images")
    add("--num_classes", type=count, metavar="N", help="needed for BIN")
    add("--output", type=Path, default=Path("result.json"), help="JSON to write")


def run(arguments: argparse.Namespace) -> None:
    found = score(
        arguments.result,
        label_file=arguments.label_file,
        image_dir=arguments.image_dir,
        input_dir=arguments.input,
        num_classes=arguments.num_classes,
    )
    beside = write_score(found, arguments.output)
    for k, hits in zip(TOP, found.hits, strict=True):
        print(f"Top{k} accuracy: {100 * hits / found.images:.2f}% ({hits} of {found.images})")
    logger.info("%s, %s", arguments.output, beside)
