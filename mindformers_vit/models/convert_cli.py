"""The command line of every family's `convert_weight.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import yaml

from mindformers_vit.errors import ConfigError, MindFormersViTError
from mindformers_vit.models.convert import STYLES, Converter


def main(converter: Converter, argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 not possible, 2 a wrong or missing argument."""
    args = _parser(converter).parse_args(argv)
    given = {name: getattr(args, name) for name in (*converter.needed, *converter.options)}
    try:
        report = converter.convert_weight(
            args.torch_path,
            args.mindspore_path,
            reversed=args.reversed,
            layout=args.layout,
            container=args.container,
            settings={name: value for name, value in given.items() if value is not None},
        )
    except MindFormersViTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(report)
    return 0


def setting(text: str) -> object:
    """A value as a yaml has it; ValueError if it is none, as argparse wants it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _parser(converter: Converter) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{converter.family.arch}: weights from PyTorch and back (docs/weights.md)",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--torch_path", "--torch_pth_path", required=True, help="the file or folder to convert")
    add("--mindspore_path", "--ms_ckpt_path", required=True, help="ours: .ckpt or .safetensors")
    add("--reversed", action="store_true", help="from MindSpore to PyTorch")
    add("--layout", choices=STYLES, help="what to write when reversed")
    keys = ", ".join(converter.containers)
    add("--container", metavar="KEY", help=f"the key with the tensors (else the first of {keys})")
    for name in (*converter.needed, *converter.options):
        add(f"--{name}", type=setting, metavar="VALUE", help="if the file does not tell it")
    return parser
