"""The processes of one server's ranks: started, watched, stopped together, started again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL = 0.1  # seconds between looks
_GRACE = 5.0  # seconds from SIGTERM to SIGKILL for ranks whose partner is gone
_SAVING = 60.0  # seconds for the others to end after a signal, once the first has
_TAIL = 20  # lines of a failed rank's log
_NO_RESTART = (2, 130)  # wrong settings, and an interrupt, would only happen again


@dataclass(frozen=True, eq=False)
class Rank:
    """One process: what to run, where, with what in its environment, and its log."""

    name: str  # "rank 3", "scheduler"
    command: tuple[str, ...]
    environment: Mapping[str, str]  # in addition to this process's own
    directory: Path
    log: Path
    cores: tuple[int, ...] = ()  # to run on; empty: all
    is_scheduler: bool = False

    def shell(self) -> str:
        """The same as a command for a shell."""
        words = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        bind = ["taskset", "-c", ",".join(map(str, self.cores))] if self.cores else []
        line = " ".join(["env", *words, shlex.join([*bind, *self.command])])
        return (
            f"cd {shlex.quote(str(self.directory))} && {line} > {shlex.quote(str(self.log))} 2>&1"
        )


def run(
    ranks_of: Callable[[int], Sequence[Rank]], *, max_restarts: int = 0, say: Any = print
) -> int:
    """Run the ranks to their end; the exit code of the first that failed, else 0.

    When one fails, the others are stopped; SIGTERM and SIGINT are passed on to all of them.

    Args:
        ranks_of: attempt (from 0) -> the processes.
        max_restarts: how often all are started again after a failure that may pass.
    """
    for attempt in range(max_restarts + 1):
        with _Group(ranks_of(attempt), append=attempt > 0) as group, _passing_on(group):
            code = group.wait(say)
        may_pass = code not in (0, *_NO_RESTART) and not group.signalled
        if not may_pass or attempt == max_restarts:
            return code
        say(f"restart {attempt + 1} of {max_restarts}, from the newest checkpoint")
    raise AssertionError("not reached")


class _Group:
    """Running processes; leaving the block ends every one of them."""

    def __init__(self, ranks: Sequence[Rank], *, append: bool) -> None:
        self.signalled = False
        self._running: dict[Rank, subprocess.Popen[bytes]] = {}
        try:
            for rank in ranks:
                self._running[rank] = _start(rank, append=append)
        except BaseException:
            self.stop(0.0)
            raise

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(_GRACE)

    def wait(self, say: Any) -> int:
        """Until all ranks have ended, or one has failed; that one's exit code."""
        waiting = dict(self._running)
        while any(not rank.is_scheduler for rank in waiting):
            for rank, process in list(waiting.items()):
                code = process.poll()
                if code is None:
                    continue
                del waiting[rank]
                if code != 0:
                    return self._failed(rank, code, waiting, say)
            time.sleep(_POLL)
        return 0

    def _failed(self, rank: Rank, code: int, others: Mapping[Rank, Any], say: Any) -> int:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        say(f"{rank.name} ended with {reason}; the end of its log, {rank.log}:")
        for line in tail(rank.log):
            say(f"  {line}")
        if self.signalled:  # each was told to end, and may take its time to save
            saving = [process for other, process in others.items() if not other.is_scheduler]
            end = time.monotonic() + _SAVING
            while time.monotonic() < end and any(p.poll() is None for p in saving):
                time.sleep(_POLL)
        return 128 - code if code < 0 else code

    def pass_on(self, number: int) -> None:
        """Send a signal to every rank; a second one ends them at once."""
        if self.signalled:
            number = signal.SIGKILL
        self.signalled = True
        for rank, process in self._running.items():
            if process.poll() is None and (number == signal.SIGKILL or not rank.is_scheduler):
                _signal(process, number)

    def stop(self, grace: float) -> None:
        """End what still runs, with whatever it has started itself."""
        for process in self._running.values():
            if process.poll() is None:
                _signal(process, signal.SIGTERM)
        end = time.monotonic() + grace
        while time.monotonic() < end and any(p.poll() is None for p in self._running.values()):
            time.sleep(_POLL)
        for process in self._running.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its loader's workers, too
            except ProcessLookupError:
                continue
            process.wait()


def _start(rank: Rank, *, append: bool) -> subprocess.Popen[bytes]:
    rank.log.parent.mkdir(parents=True, exist_ok=True)
    with rank.log.open("ab" if append else "wb") as log:
        process = subprocess.Popen(
            rank.command,
            env={**os.environ, **rank.environment},
            cwd=rank.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C of the terminal reaches it once, through pass_on
        )
    if rank.cores and sys.platform == "linux":
        os.sched_setaffinity(process.pid, rank.cores)
    return process


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the rank alone; SIGKILL to everything it has started as well."""
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


@contextmanager
def _passing_on(group: _Group) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda received, _: group.pass_on(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
    except OSError as error:
        return [f"(no log: {error.strerror})"]
