"""Worker processes and the ring they write to, seen from the calling process.

Each worker has up to `AHEAD` batches to do; answers are handed out in order. The workers live
until `close`, the pool's end or the interpreter's; if the calling process is killed they see
their connection close and go.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from mindformers_vit.data.batches import BadSample, Batch, BatchPlan, Recipe
from mindformers_vit.data.ring import Ring
from mindformers_vit.data.worker import Answer, Task
from mindformers_vit.errors import ConfigError, MindFormersViTError

logger = logging.getLogger(__name__)

AHEAD = 2  # batches given to a worker at a time
SPARE = 2  # batches the user holds in a plain loop: the current one and, for a moment, the next
SLOW = 60  # seconds without any answer before a warning
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from mindformers_vit.data.worker import main; main(*map(int, sys.argv[2:]))"
)


Replan = Callable[[BatchPlan, BadSample], BatchPlan]


class WorkerError(MindFormersViTError):
    """A worker process of the input pipeline died or failed in a way that is not the data's."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    tickets: dict[int, int] = field(default_factory=dict)  # ticket -> slot, not answered yet


class WorkerPool:
    """`num_workers` processes that make the batches of a recipe."""

    def __init__(self, recipe: Recipe, num_workers: int) -> None:
        if os.name != "posix":
            raise ConfigError(
                f"num_parallel_workers {num_workers} needs Linux or macOS; use 0 on this system"
            )
        payload = _pickled(recipe)
        slots = num_workers * AHEAD + SPARE
        self._ring = Ring(recipe.fields(), slots, spare=SPARE, shared=True)
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop, self._workers, self._ring, os.getpid())
        self._done: dict[int, tuple[int, Answer]] = {}  # ticket -> slot, answer
        self._plans: dict[int, BatchPlan] = {}  # by ticket, not handed out yet
        self._next_ticket = 0
        self._first = 0  # tickets below belong to an earlier run
        for _ in range(num_workers):
            self._workers.append(_start(self._ring))
        for worker in self._workers:
            self._send(worker, payload)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def run(self, plans: Iterable[BatchPlan], replan: Replan) -> Iterator[Batch]:
        """The batches of the plans, in order. One run at a time: a newer one ends this one.

        Args:
            replan: called with a plan and its bad sample, gives the plan to carry out instead.
        """
        first = ticket = self._begin()
        todo = iter(plans)
        plan = next(todo, None)
        while True:
            self._check(first)
            while plan is not None and self._submit(plan):
                plan = next(todo, None)
            if ticket in self._done and self._done[ticket][1].bad_sample:
                self._again(ticket, replan)
            elif ticket in self._done:
                yield self._deliver(ticket)
                ticket += 1
            elif plan is None and ticket == self._next_ticket:
                return
            else:
                self._collect()

    def close(self) -> None:
        """End the workers; safe to call twice."""
        self._finalizer()

    def _begin(self) -> int:
        for slot, _ in self._done.values():
            self._ring.put_back(slot)
        self._done.clear()
        self._plans.clear()
        self._first = self._next_ticket
        return self._first

    def _check(self, first: int) -> None:
        if not self._finalizer.alive:
            raise WorkerError("the loader was closed while its batches were being read")
        if first != self._first:
            raise WorkerError("a newer epoch of the same loader was begun; read that one")

    def _submit(self, plan: BatchPlan) -> bool:
        """Give the plan to the least busy worker; False if all have enough to do."""
        worker = min(self._workers, key=lambda w: len(w.tickets))
        if len(worker.tickets) >= AHEAD or self._ring.available < 1:
            return False
        self._give(worker, Task(self._next_ticket, self._ring.take(), plan))
        self._next_ticket += 1
        return True

    def _give(self, worker: _Worker, task: Task) -> None:
        worker.tickets[task.ticket] = task.slot
        self._plans[task.ticket] = task.plan
        self._send(worker, pickle.dumps(task))

    def _again(self, ticket: int, replan: Replan) -> None:
        """Have a batch made without its bad sample, in the slot that it has."""
        slot, answer = self._done.pop(ticket)
        try:
            plan = replan(self._plans.pop(ticket), BadSample(answer.bad_sample, answer.row))
        except BaseException:
            self._ring.put_back(slot)
            raise
        self._give(min(self._workers, key=lambda w: len(w.tickets)), Task(ticket, slot, plan))

    def _send(self, worker: _Worker, payload: bytes) -> None:
        try:
            worker.connection.send_bytes(payload)
        except OSError:
            self._died(worker)

    def _collect(self) -> None:
        """Wait for at least one answer and file those there are."""
        by_connection = {worker.connection: worker for worker in self._workers}
        ready = wait(list(by_connection), timeout=SLOW)
        if not ready:
            logger.warning("no batch from the input workers for %d seconds; still waiting", SLOW)
        for connection in ready:
            worker = by_connection[connection]  # type: ignore[index]
            try:
                answer: Answer = worker.connection.recv()
            except (EOFError, OSError):
                self._died(worker)
            self._file(worker, answer)

    def _file(self, worker: _Worker, answer: Answer) -> None:
        if answer.ticket < 0:
            self.close()
            raise WorkerError(
                "an input worker cannot load the transforms; define them in a module that can be "
                f"imported, not in the main script:\n{answer.traceback}"
            )
        slot = worker.tickets.pop(answer.ticket)
        if answer.ticket < self._first:
            self._ring.put_back(slot)
        else:
            self._done[answer.ticket] = slot, answer

    def _deliver(self, ticket: int) -> Batch:
        slot, answer = self._done.pop(ticket)
        del self._plans[ticket]
        if answer.traceback:
            self._ring.put_back(slot)
            raise WorkerError(f"an input worker failed:\n{answer.traceback}")
        return self._ring.give(slot)

    def _died(self, worker: _Worker) -> NoReturn:
        try:
            code = worker.process.wait(timeout=5)
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            how = "it closed its connection"
        pid = worker.process.pid
        self.close()
        hint = "; signal 9 often means that memory ran out" if "signal 9" in how else ""
        raise WorkerError(f"input worker (process {pid}) ended: {how}{hint}")


def _pickled(recipe: Recipe) -> bytes:
    try:
        return pickle.dumps(recipe)
    except Exception as error:
        raise ConfigError(f"transforms cannot be sent to a worker process: {error}") from error


def _start(ring: Ring) -> _Worker:
    """A new Python process that runs `worker.main`; only its own socket and the ring are open."""
    ours, theirs = socket.socketpair()
    with theirs, _interrupts_held_back():
        paths = json.dumps([str(Path(path).absolute()) for path in sys.path])
        numbers = map(str, (theirs.fileno(), ring.fd, ring.size))
        process = subprocess.Popen(
            [sys.executable, "-c", START, paths, *numbers],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), ring.fd),
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    return _Worker(process, Connection(ours.detach()))


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Children inherit the mask, so no signal can hit one before it ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(workers: list[_Worker], ring: Ring, owner: int) -> None:
    if os.getpid() != owner:  # a forked copy of the calling process ends: not its workers
        return
    for worker in workers:
        worker.connection.close()
        worker.process.kill()  # they hold nothing that could be lost
    for worker in workers:
        worker.process.wait()
    ring.close()
