"""`deploy infer`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindformers_vit.deploy.backends import BACKENDS
from mindformers_vit.deploy.commands import count
from mindformers_vit.deploy.formats import OUT_FORMATS
from mindformers_vit.deploy.infer import infer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, required=True, help="exported .onnx; an .om for ais_bench")
    add("--input", type=Path, required=True, help="folder of input files")
    add("--output", type=Path, default=Path(), help="parent of the results' folder")
    add("--output_dirname", help="its name; default: the time")
    add("--outfmt", choices=OUT_FORMATS, default="NPY", help="TXT keeps 6 decimals only")
    add("--backend", choices=BACKENDS, default="onnxruntime")
    add(
        "--batchsize",
        type=count,
        metavar="N",
        help="images of a run, where the model leaves it open",
    )


def run(arguments: argparse.Namespace) -> None:
    folder = infer(
        arguments.model,
        arguments.input,
        arguments.output,
        output_dirname=arguments.output_dirname,
        outfmt=arguments.outfmt,
        backend=arguments.backend,
        batch_size=arguments.batchsize,
    )
    print(folder)
