"""The page on the disk: whole, or as it was."""

from __future__ import annotations

import time
from pathlib import Path

from mindformers_vit.report.facts import read_facts
from mindformers_vit.report.page import page

NAME = "report.html"


def write_report(directory: Path) -> Path:
    """Make `report.html` anew from the files of an output directory; OSError if it cannot be."""
    written = time.strftime("%Y-%m-%d %H:%M:%S")
    return replace_text(directory / NAME, page(read_facts(directory), written=written))


def replace_text(path: Path, content: str) -> Path:
    """Put `content` at `path` in one move: a reader sees the old file or the new one.

    Unlike a checkpoint it is not forced to the disk; it can be made again.
    """
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content.encode("utf-8", errors="backslashreplace"))
    beside.replace(path)
    return path
