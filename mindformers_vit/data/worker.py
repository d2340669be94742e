"""A worker process: receives plans, writes batches to shared memory, answers when done.

Started as a plain child with this module's `main`, not through multiprocessing, so the user's main
module is neither imported nor needed, and MindSpore is never imported here. Ends when the other
side of its connection closes.
"""

from __future__ import annotations

import mmap
import pickle
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from mindformers_vit.data.batches import BatchPlan, Field, Recipe
from mindformers_vit.data.ring import slot_arrays
from mindformers_vit.errors import DataError


@dataclass(frozen=True)
class Task:
    """Make `plan` in `slot`; `ticket` comes back with the answer."""

    ticket: int
    slot: int
    plan: BatchPlan


@dataclass(frozen=True)
class Answer:
    """The batch of `ticket` is made, or why not: `data_error` is for the user as it is."""

    ticket: int
    data_error: str = ""
    traceback: str = ""


def main(connection_fd: int, memory_fd: int, memory_size: int) -> None:
    """Serve until the connection closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # to the whole group: the parent's business
        signal.signal(number, signal.SIG_IGN)
    memory = mmap.mmap(memory_fd, memory_size)
    with Connection(connection_fd) as connection:
        try:
            recipe: Recipe = pickle.loads(connection.recv_bytes())
            fields = recipe.fields()
        except EOFError:
            return
        except Exception:
            connection.send(Answer(-1, traceback=traceback.format_exc()))
            return
        try:
            while True:
                task = connection.recv()
                connection.send(_make(recipe, fields, memory, task))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _make(recipe: Recipe, fields: Sequence[Field], memory: mmap.mmap, task: Task) -> Answer:
    try:
        recipe.fill(task.plan, slot_arrays(memory, task.slot, fields))
    except DataError as error:
        return Answer(task.ticket, data_error=str(error))
    except Exception:
        return Answer(task.ticket, traceback=traceback.format_exc())
    return Answer(task.ticket)
