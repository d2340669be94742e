"""`deploy run`: the whole road with one command. What it does not know goes to the export."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from mindformers_vit.config.loader import find_config, load_yaml, parse_override, set_dotted
from mindformers_vit.data.class_folders import check_class_folders
from mindformers_vit.data.sources import open_source
from mindformers_vit.deploy.atc import atc_command, write_op_precision
from mindformers_vit.deploy.benchmark import benchmark
from mindformers_vit.deploy.commands import count
from mindformers_vit.deploy.commands.preprocess import find_processor
from mindformers_vit.deploy.infer import infer
from mindformers_vit.deploy.model_manifest import read_model_manifest
from mindformers_vit.deploy.preprocess import preprocess
from mindformers_vit.deploy.report import write_report
from mindformers_vit.deploy.score import score, write_score
from mindformers_vit.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, help="yaml of the model")
    add("--load_checkpoint", required=True, help="weight file, directory or model name")
    add("--image_dir", type=Path, required=True, help="class folders, or images with --label_file")
    add("--label_file", type=Path, help="<file name> <class index> a line")
    add("--output", type=Path, required=True, help="new folder for everything")
    add(
        "--batch_sizes",
        type=count,
        nargs="+",
        default=[1, 8],
        metavar="N",
        help="to benchmark; of an open batch",
    )
    add("--soc_version", default="Ascend310P3", help="for the atc commands in the report")
    add("--num_workers", type=int, default=os.cpu_count() or 1, metavar="N")
    add("--num_samples", type=count, metavar="N", help="only so many images")
    add("--loop", type=count, default=20, metavar="N", help="runs of each batch size")
    add("--options", nargs="+", default=[], metavar="KEY=VALUE", help="settings, dotted keys")


def run(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output
    for folder in (output / "inputs", output / "results"):
        if folder.exists():
            raise ConfigError(f"{folder}: there already; give a new --output")
    model = _export(arguments)
    own = read_model_manifest(model).batch_size
    sizes = arguments.batch_sizes if own is None else [own]
    processor, pixels, id2label = find_processor(str(model))
    if not arguments.label_file:
        check_class_folders(id2label, open_source(arguments.image_dir).classes, "--image_dir")
    preprocess(
        processor,
        arguments.image_dir,
        output / "inputs",
        pixels=pixels,
        num_workers=arguments.num_workers,
        num_samples=arguments.num_samples,
        id2label=id2label,
    )
    results = infer(
        model, output / "inputs", output, output_dirname="results",
        batch_size=max(sizes),
    )  # fmt: skip
    found = score(
        results,
        label_file=arguments.label_file,
        image_dir=None if arguments.label_file else arguments.image_dir,
        input_dir=output / "inputs",
    )
    write_score(found, output / "result.json")
    throughput = benchmark([model], batch_sizes=sizes, loop=arguments.loop)
    write_op_precision(model)
    commands = [
        shlex.join(atc_command(model, batch_size=size, soc=arguments.soc_version)) for size in sizes
    ]
    page = write_report(output, read_model_manifest(model), found, throughput, commands)
    print(page.read_text(encoding="utf-8"), end="")


def _export(arguments: argparse.Namespace) -> Path:
    """`--run_mode export` to ONNX, of an open batch unless the options say otherwise."""
    from mindformers_vit.engine.plan import make_plan
    from mindformers_vit.engine.run import run as run_plan

    values = load_yaml(find_config(arguments.config))
    settings = [
        "export.batch_size=dynamic",
        *arguments.options,
        "export.export_format=onnx",
        "run_mode=export",
        f"load_checkpoint={arguments.load_checkpoint}",
        f"output_dir={arguments.output}",
    ]
    for text in settings:
        values = set_dotted(values, *parse_override(text))
    model: Path = run_plan(make_plan(values))
    return model
