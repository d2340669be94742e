"""Images that cannot be used: listed once each in `bad_samples.jsonl`, until there are too many."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from mindformers_vit.errors import DataError

logger = logging.getLogger(__name__)
FILE_NAME = "bad_samples.jsonl"
_SHOWN = 20  # in the error


class BadSamples:
    """The bad images of one data set.

    Args:
        name: of the data set, for messages.
        total: how many images it has.
        allowed: below 1 a fraction of `total`, else a number.
        directory: where `bad_samples.jsonl` is; a resumed run adds to it.
    """

    def __init__(self, name: str, total: int, allowed: float, directory: Path) -> None:
        self.name, self.total, self.allowed = name, total, allowed
        self.reasons: dict[str, str] = {}  # by path
        self._most = min(int(allowed * total if allowed < 1 else allowed), max(total - 1, 0))
        self._file = directory / FILE_NAME

    def add(self, path: str, reason: str) -> None:
        """List an image; DataError with the whole list if it is one too many."""
        if path in self.reasons:
            return
        self.reasons[path] = reason
        self._write(path, reason)
        if len(self.reasons) > self._most:
            lines = [f"  {reason}" for reason in self.reasons.values()]
            more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            raise DataError(
                f"{self.name}: {len(self.reasons)} of {self.total} images cannot be used, more "
                f"than max_bad_samples ({self.allowed:g}) allows; all are listed in {self._file}:\n"
                + "\n".join([*lines[:_SHOWN], *more])
            )
        logger.warning("%s: %s", self.name, reason)

    def _write(self, path: str, reason: str) -> None:
        line = {"data": self.name, "path": path, "reason": reason}
        try:
            known = self._file.read_bytes() if self._file.is_file() else b""
            text = known.decode(errors="replace")  # a kill may have cut within a character
            if line in _lines(text):
                return
            with self._file.open("a", encoding="utf-8") as file:
                cut = "\n" if text and not text.endswith("\n") else ""  # by a kill
                file.write(cut + json.dumps(line) + "\n")  # escaped: a name may be no UTF-8
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._file, error)


def _lines(text: str) -> list[object]:
    """What is listed already; a line cut by a kill is not."""
    found: list[object] = []
    for line in text.split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
