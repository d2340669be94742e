"""`validate CONFIG ...`: every problem of every yaml, without MindSpore and without data."""

from __future__ import annotations

import argparse
import sys
import textwrap

from mindformers_vit.config.loader import find_config, load_yaml
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import ConfigError


def check(name: str) -> tuple[list[str], list[str]]:
    """(problems, warnings) of one yaml."""
    try:
        plan = make_plan(load_yaml(find_config(name)))
    except ConfigError as error:
        return error.problems, []
    return [], list(plan.warnings)


def _shown(warning: str) -> str:
    """A warning of one line or several, at 80 columns."""
    lines = f"  warning: {warning}".splitlines()
    shown = [_wrap(lines[0], 2), *(_wrap(line, 4) for line in lines[1:])]
    return "\n".join(shown)


def _wrap(line: str, indent: int) -> str:
    return textwrap.fill(
        line.strip(), width=80, break_long_words=False, break_on_hyphens=False,
        initial_indent=" " * indent, subsequent_indent=" " * (indent + 2),
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Print what is found: problems to stderr, the rest to stdout."""
    parser = argparse.ArgumentParser(
        prog="mindformers-vit validate",
        description="Check yamls and report all problems of each; exit code 2 if there are any. "
        "Paths and data are not looked at; run_mindformer.py --dry_run does that.",
        epilog="example: mindformers-vit validate configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="+", metavar="CONFIG", help="yaml of a run")
    bad = 0
    for name in parser.parse_args(argv).config:
        problems, warnings = check(name)
        if not problems:
            print("\n".join([f"{name}: ok", *map(_shown, warnings)]))
            continue
        bad += 1
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print("\n  ".join([f"{name}: {count}", *problems]), file=sys.stderr)
    return 2 if bad else 0
