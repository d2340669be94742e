"""`mindformers-vit deploy COMMAND`: one file a command, each with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

COMMANDS = {
    "preprocess": "images to input files",
    "atc": "the command that makes a .om of an exported file; runs it where atc is",
    "infer": "input files through a model to results",
    "score": "accuracy of results",
    "benchmark": "images a second per batch size",
    "run": "export, preprocess, infer, score and benchmark, with one report",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="mindformers-vit deploy", description=__doc__, allow_abbrev=False
    )
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = parsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        _module(name).add_arguments(command)
    return parser


def deploy(argv: list[str]) -> int:
    """Run one command; its exit code. Errors are raised for `cli.main` to show."""
    arguments = build_parser().parse_args(argv)
    _module(arguments.command).run(arguments)
    return 0


def count(text: str) -> int:
    """The type of flags that count something: a whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' given, a number from 1 on is expected")
    return int(text)


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")
