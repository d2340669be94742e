"""Merge the rank tables of several servers: `python tools/merge_hccl.py hccl*.json`.

Ranks are given in the order of the files, or of --order. A file named like the result of an
earlier merge (hccl_2s_16p.json) is left out, so that the command can be run again.
Exit codes: 0 done, 2 bad usage or an unsound table; then nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools import rank_table, rank_table_check


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file_list", nargs="+", help="a rank table of each server, in rank order")
    parser.add_argument("--order", help="server ids in rank order, separated by commas")
    parser.add_argument("--output_dir", default=".", help="where the file is written")
    return parser


def main(argv: list[str] | None = None) -> int:
    given = build_parser().parse_args(argv)
    paths = [Path(name) for name in given.file_list]
    order = [part.strip() for part in given.order.split(",")] if given.order else None
    try:
        path, words = merge(paths, order, given.output_dir)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return error.exit_code
    print("\n".join(words))
    print(f"Completed: hccl file was saved in: {path}")
    return 0


def merge(paths: list[Path], order: list[str] | None, output_dir: str) -> tuple[Path, list[str]]:
    """Read, merge and write; the file and what is to be said."""
    inputs = [path for path in paths if not rank_table.is_merged_name(path)]
    if not inputs:
        raise ConfigError(f"{paths[0]}: is the result of a merge; give the servers' own tables")
    words = [f"{path}: left out, the result of a merge" for path in paths if path not in inputs]
    problems: list[str] = []
    tables = {}
    for path in inputs:
        if str(path) in tables:
            problems.append(f"{path}: given twice")
            continue
        try:
            tables[str(path)] = rank_table_check.read_table(path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    table, ranges = rank_table.merge_tables(tables, order=order)
    return rank_table.write_table(table, output_dir, merged=True), [
        *words,
        *ranges,
        *rank_table_check.warnings_of(table),
    ]


if __name__ == "__main__":
    sys.exit(main())
