"""One training run at a time in an output directory.

A scheduler may start a job again while the old one still ends. The system's own lock goes with the
process, however it ends, and forked children do not hold it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mindformers_vit.errors import ConfigError


@contextlib.contextmanager
def only_run_in(directory: Path) -> Iterator[None]:
    """A block in which no other process trains in `directory`; ConfigError if one does.

    Where the system or the file system has no locks, the block is simply carried out.
    """
    with (directory / "log" / ".lock").open("ab") as file:
        if os.name == "posix":
            _lock(file.fileno(), directory)
        yield


def _lock(handle: int, directory: Path) -> None:
    import fcntl

    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise ConfigError(
                f"output_dir: another run trains in '{directory}' at this moment; wait for its "
                "end, or give another --output_dir"
            ) from None
