"""`deploy benchmark`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mindformers_vit.checkpoint import files
from mindformers_vit.deploy.backends import SESSIONS
from mindformers_vit.deploy.benchmark import benchmark, table
from mindformers_vit.deploy.commands import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, nargs="+", required=True, help="exported files")
    add("--batch_sizes", type=count, nargs="+", default=[], metavar="N", help="of an open batch")
    add("--backend", choices=tuple(SESSIONS), default="onnxruntime")
    add("--loop", type=count, default=20, metavar="N", help="runs of each batch size")
    add("--output", type=Path, help="JSON to write")


def run(arguments: argparse.Namespace) -> None:
    found = benchmark(
        arguments.model,
        batch_sizes=arguments.batch_sizes,
        backend=arguments.backend,
        loop=arguments.loop,
    )
    print(table(found))
    if arguments.output is not None:
        records = [item.as_dict() for item in found]
        with files.replacing(arguments.output) as temporary:
            files.write_file(temporary, (json.dumps(records, indent=1) + "\n").encode())
