"""Results on disk: `{task}_result.txt` to read, `{task}_result.json` to compute with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mindformers_vit.errors import DataError

logger = logging.getLogger(__name__)


class UniqueNames:
    """Hands out each file name once: `cat`, `cat_2`, `cat_3` (upper and lower case are one)."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, stem: str) -> str:
        name, count = stem, 1
        while name.lower() in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name.lower())
        return name


def make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output_dir: '{folder}' cannot be made: {error}") from error
    return folder


def write_results(
    records: list[dict[str, Any]],
    lines: list[str],
    *,
    task: str,
    output_dir: Path | None,
    save_file: Path | None = None,
) -> list[Path]:
    """Log the lines of one call and write its text and JSON file, if there is a place for them.

    Args:
        records: One JSON object a picture, with its file name under `file`.
        lines: One line of text a picture.

    Returns:
        The files written.
    """
    for line in lines:
        logger.info(line)
    if save_file is None and output_dir is None:
        return []
    text = save_file or Path(output_dir or ".") / f"{task}_result.txt"
    make_folder(text.parent)
    # a save_file that ends in .json must not be overwritten by its own twin
    twin = text.with_suffix(".json") if text.suffix != ".json" else text
    if twin != text:
        text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    content = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
    twin.write_text(content, encoding="utf-8")
    return [text] if twin == text else [text, twin]
