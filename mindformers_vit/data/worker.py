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

from mindformers_vit.data.batches import BadSample, BatchPlan, Field, Recipe
from mindformers_vit.data.ring import slot_arrays


@dataclass(frozen=True)
class Task:
    """Make `plan` in `slot`; `ticket` comes back with the answer."""

    ticket: int
    slot: int
    plan: BatchPlan


@dataclass(frozen=True)
class Answer:
    """The batch of `ticket` is made, or why not: `bad_sample` is for the user as it is."""

    ticket: int
    bad_sample: str = ""
    row: int = -1  # of the bad sample
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
    except BadSample as error:
        return Answer(task.ticket, bad_sample=str(error), row=error.row)
    except Exception:
        return Answer(task.ticket, traceback=traceback.format_exc())
    return Answer(task.ticket)
