"""Every write, rename and removal of the checkpoint code, and what makes them durable.

Nothing else in this package touches the disk to change it, so one fake `os` in this module
(`monkeypatch.setattr(files, "os", ...)`) can make the n-th operation of a save fail.
"""
# `os`, not `Path`, on purpose: each system call can be made to fail by a test.
# ruff: noqa: PTH101, PTH102, PTH105, PTH106, PTH108, PTH116, PTH123

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1 << 24  # bytes handed to the system in one call


def write_file(path: Path, *parts: bytes | memoryview) -> None:
    """Create `path` with these bytes and force it to the disk; a file that exists is an OSError.

    The mode is what the umask leaves of 0666.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(handle, view[:_CHUNK]) :]  # a write may be short
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync(path: Path) -> None:
    """Force a file's contents, or a directory's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Rename within a directory and make the new entry durable; a file at `target` is replaced."""
    os.replace(source, target)
    fsync(target.parent)


def make_dirs(path: Path) -> None:
    """Create a directory and its parents, each durable in its own parent."""
    if not path.is_dir():
        make_dirs(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        fsync(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a whole directory; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            remove(inner)
        os.rmdir(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_quietly(path: Path) -> None:
    """`remove` on the way out of an error, which must not be hidden by a second one."""
    with contextlib.suppress(OSError):
        remove(path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; durable under `path` when the block ends.

    The ending is kept (".x.tmp-17.ckpt"). If the block raises, `path` is left as it was.
    """
    make_dirs(path.parent)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    remove(temporary)
    try:
        yield temporary
        fsync(temporary)
        rename(temporary, path)
    except BaseException:
        remove_quietly(temporary)
        raise


def set_default_mode(path: Path) -> None:
    """Give a file that a library created 0400 the mode the umask leaves of 0666."""
    probe = path.with_name(f".{path.name}.mode-{os.getpid()}")
    write_file(probe, b"")
    mode = stat.S_IMODE(os.stat(probe).st_mode)
    remove(probe)
    os.chmod(path, mode)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return digest(path, "sha256")


def digest(path: Path, kind: str) -> str:
    """Hexadecimal digest of a file; `kind` as hashlib names it."""
    found = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_CHUNK):
            found.update(block)
    return found.hexdigest()
