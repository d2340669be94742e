"""The processes of one server's ranks: started, watched, stopped together, started again."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindformers_vit.compat import ENDED

_POLL = 0.1  # seconds between looks
_GRACE = 5.0  # seconds from SIGTERM to SIGKILL for ranks whose partner is gone
_SHUTDOWN = 10.0  # seconds from the last rank's end to that of its process
_SAVING = 60.0  # seconds for the others to end after a signal, once the first has
_TAIL = 20  # lines of a failed rank's log
_NO_RESTART = (2, 130, 143)  # wrong settings, and a rank that was told to end
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT)


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

    @property
    def ended(self) -> Path:
        """Where `compat.note_end` writes in that process."""
        return self.log.with_suffix(".ended")

    def noted(self) -> int:
        """What it has written there."""
        return int(self.ended.read_text(encoding="utf-8"))

    def shell(self) -> str:
        """The same as a command for a shell."""
        words = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        bind = ["taskset", "-c", ",".join(map(str, self.cores))] if self.cores else []
        line = " ".join(["env", *words, shlex.join([*bind, *self.command])])
        return (
            f"cd {shlex.quote(str(self.directory))} && {line} >> {shlex.quote(str(self.log))} 2>&1"
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
    with noted_signals() as came:
        group = _Group(came, say)
        for attempt in range(max_restarts + 1):
            try:
                group.start(ranks_of(attempt))
                code = group.wait()
            finally:
                group.stop()
            may_pass = code not in (0, *_NO_RESTART) and not group.signalled
            if not may_pass or attempt == max_restarts:
                return code
            say(f"restart {attempt + 1} of {max_restarts}, from the newest checkpoint")
    raise AssertionError("not reached")


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """What asks this process to end is put into the list, for a loop that looks there."""
    came: list[int] = []
    asking = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's
        asking.append(signal.SIGHUP)
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in asking}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Group:
    """The processes of an attempt."""

    def __init__(self, came: list[int], say: Any) -> None:
        self.signalled = False
        self._came, self._say = came, say
        self._running: dict[Rank, subprocess.Popen[bytes]] = {}
        self._logged: dict[Rank, int] = {}  # bytes of a rank's log before it began

    def start(self, ranks: Sequence[Rank]) -> None:
        self._running = {}
        for rank in ranks:
            rank.log.parent.mkdir(parents=True, exist_ok=True)
            rank.ended.unlink(missing_ok=True)  # of a launcher that was killed
            with rank.log.open("ab") as log:
                self._logged[rank] = log.tell()
                self._running[rank] = _start(rank, log)

    def wait(self) -> int:
        """Until all ranks have ended, or one has failed; that one's exit code."""
        waiting, since = dict(self._running), time.monotonic()
        while any(not rank.is_scheduler for rank in waiting):
            for rank, process in list(waiting.items()):
                code = process.poll()
                if code is None:
                    continue
                del waiting[rank]
                if code in _CRASHES and rank.ended.is_file():
                    code = rank.noted()
                    self._say(f"{rank.name} crashed after its end, in MindSpore's shutdown")
                if code != 0:
                    return self._failed(rank, code)
            left = [rank for rank in waiting if not rank.is_scheduler]
            if not all(rank.ended.is_file() for rank in left):
                since = time.monotonic()
            elif time.monotonic() - since > _SHUTDOWN:  # a partner's crash may leave them waiting
                return max(rank.noted() for rank in left)
            self._pause()
        return 0

    def _failed(self, rank: Rank, code: int) -> int:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._say(f"{rank.name} ended with {reason}; the end of its log, {rank.log}:")
        for line in tail(rank.log, self._logged[rank]):
            self._say(f"  {line}")
        if self.signalled:  # each was told to end, and may take its time to save
            self._wait_for([p for r, p in self._running.items() if not r.is_scheduler], _SAVING)
        return 128 - code if code < 0 else code

    def stop(self) -> None:
        """End what still runs, with whatever it has started itself."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        self._wait_for(self._running.values(), _GRACE)
        for process in self._running.values():
            _kill(process)
            process.wait()
        for rank in self._running:
            rank.ended.unlink(missing_ok=True)

    def _wait_for(self, processes: Iterable[subprocess.Popen[bytes]], seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(p.poll() is None for p in processes):
            self._pause()

    def _pause(self) -> None:
        """Pass on to every rank what has come, once; a second signal ends them at once."""
        time.sleep(_POLL)
        if not self._came:
            return
        number = signal.SIGINT if self._came[-1] == signal.SIGINT else signal.SIGTERM
        self._came.clear()
        for rank, process in self._running.items():
            if self.signalled:
                _kill(process)
            elif process.poll() is None and not rank.is_scheduler:
                process.send_signal(number)
        self.signalled = True


def _start(rank: Rank, log: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        rank.command,
        env={**os.environ, **rank.environment, ENDED: str(rank.ended)},
        cwd=rank.directory,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C of the terminal reaches it once, through the launcher
        preexec_fn=_end_with_launcher if sys.platform == "linux" else None,
    )
    if rank.cores and sys.platform == "linux":
        os.sched_setaffinity(process.pid, rank.cores)
    return process


def _end_with_launcher() -> None:
    """In the child: Linux sends it a SIGTERM when the launcher has been killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """And what it has started itself: its loader's workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def tail(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log, of those after its first `start` bytes."""
    try:
        written = log.read_bytes()[start:].decode("utf-8", errors="replace")
    except OSError as error:
        return [f"(no log: {error.strerror})"]
    return written.splitlines()[-_TAIL:]
