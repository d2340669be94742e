"""`deploy atc`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mindformers_vit.deploy.atc import atc_command, run_atc, write_op_precision
from mindformers_vit.deploy.commands import count
from mindformers_vit.deploy.model_manifest import read_model_manifest
from mindformers_vit.deploy.npu import soc_version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, required=True, help="exported file")
    add("--batch_sizes", type=count, nargs="+", metavar="N", help="default: the file's own, or 1")
    add("--soc_version", help="such as Ascend310P3; default: what npu-smi info shows")
    add("--output", type=Path, help="folder of the .om; default: beside the model")
    add("--print_only", action="store_true", help="do not run atc")


def run(arguments: argparse.Namespace) -> None:
    own = read_model_manifest(arguments.model).batch_size or 1
    soc = soc_version(arguments.soc_version)
    ini = write_op_precision(arguments.model, arguments.output)
    if ini is not None:
        print(f"# {ini} written")
    for size in arguments.batch_sizes or [own]:
        command = atc_command(
            arguments.model, batch_size=size, soc=soc, output_dir=arguments.output
        )
        print(shlex.join(command))
        if not arguments.print_only and not run_atc(command):
            print("# atc is not installed here: run the line above where it is")
