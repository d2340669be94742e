"""Fetching one large file: once for all processes, resumed where it was cut, checked, put in place
at once. No MindSpore here.

While it is incomplete the file is `.<name>.part`, with what the server said of it in
`.<name>.part.json`; `.<name>.lock` keeps a second process waiting.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

from mindformers_vit.checkpoint import files
from mindformers_vit.errors import CheckpointError
from mindformers_vit.web import WebError, content_length, open_url, read_chunks

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # without a single byte more
MAX_BYTES = 1 << 34
TIMEOUT = 20.0  # seconds without an answer
PAUSE = 1.0  # seconds before another attempt, doubled after each that brings nothing


@dataclass(frozen=True)
class _Told:
    """What the server said when the download began."""

    url: str
    validator: str  # ETag or Last-Modified; "" means it cannot be resumed
    size: int | None  # bytes of the whole file


def fetch(url: str, target: Path, *, sha256: str = "", md5_prefix: str = "") -> Path:
    """`target`, downloaded from `url` unless it is there.

    Args:
        sha256: hexadecimal, of the whole file; not checked if "".
        md5_prefix: the first hexadecimal digits, where a publisher gives no more.

    Raises:
        CheckpointError: no answer, another length or checksum, or the disk is full. What was
            received of a cut download stays for the next attempt, a wrong file does not.
    """
    part = target.with_name(f".{target.name}.part")
    told = part.with_name(f"{part.name}.json")
    with locked(target):
        if target.is_file():
            return target
        try:
            _complete(url, part, told)
            _check(part, told, url, {"sha256": sha256, "md5": md5_prefix})
            files.fsync(part)
            files.rename(part, target)
            files.remove(told)
        except WebError as error:
            raise CheckpointError(str(error)) from error
        except OSError as error:
            raise _unwritable(target, error) from error
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from `path`, whose folder is made; CheckpointError if that fails."""
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        files.make_dirs(path.parent)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.info("waiting for another process that fetches %s", path.name)
            lock.acquire()
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"'{path}' cannot be written: {error.strerror or error}")


def _complete(url: str, part: Path, told: Path) -> None:
    """Download what is missing of `part`; a server that sent something is asked for the rest."""
    failures, began = 0, False
    while True:
        before = _size(part)
        try:
            return _continue(url, part, told)
        except WebError as error:
            grew = _size(part) > before
            failures, began = (0, True) if grew else (failures + 1, began)
            if error.permanent or not began or failures >= ATTEMPTS:
                raise
            logger.warning("%s; trying again", error)
            time.sleep(PAUSE * 2**failures)


def _continue(url: str, part: Path, told: Path) -> None:
    known, have = _read_told(told, url), _size(part)
    if known is None or (known.size is not None and have > known.size):
        known, have = None, 0
    if known is not None and have == known.size:
        return
    headers = {}
    if known is not None and have:
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator}
    with open_url(url, timeout=TIMEOUT, headers=headers) as response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        rest = content_length(response)
        size = None if rest is None else have + rest
        _make_room(part, url, have, size)
        if not resumed:
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
            text = json.dumps(asdict(_Told(url, validator or "", size)))
            files.remove(part)
            told.write_text(text, encoding="utf-8")
        _append(response, url, part, have, size)


def _append(response: Any, url: str, part: Path, have: int, size: int | None) -> None:
    name = part.name.removeprefix(".").removesuffix(".part")
    bar = tqdm(desc=name, total=size, initial=have, unit="B", unit_scale=True, disable=None)
    with bar, part.open("ab") as file:
        for chunk in read_chunks(response, url):
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
            if have > MAX_BYTES or (size is not None and have > size):
                raise WebError(f"'{url}': more than the {size or MAX_BYTES} bytes expected")


def _make_room(part: Path, url: str, have: int, size: int | None) -> None:
    if size is not None and size > MAX_BYTES:
        raise WebError(f"'{url}': {size} bytes, at most {MAX_BYTES} are read", permanent=True)
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - have > free:
        text = f"'{url}': {size - have} bytes are to come, {part.parent} has room for {free}"
        raise WebError(text, permanent=True)


def _check(part: Path, told: Path, url: str, wanted: dict[str, str]) -> None:
    for kind, digits in wanted.items():
        found = files.digest(part, kind) if digits else ""
        if not found.startswith(digits.lower()):
            files.remove(part)
            files.remove(told)
            raise CheckpointError(
                f"'{url}': the {kind} is {found}, {digits} is expected; the file was removed"
            )


def _read_told(told: Path, url: str) -> _Told | None:
    """What is known of a part that can be resumed from this URL, else None."""
    try:
        found = _Told(**json.loads(told.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.url == url and found.validator else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
