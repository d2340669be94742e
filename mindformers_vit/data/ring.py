"""Batch-sized slots of memory that are written, given out and used again.

With workers the memory is an unnamed file that they map too: nothing is left in /dev/shm, however
the run ends, and a container's small /dev/shm does not matter. Without, it is plain memory.
A batch given out is a view of its slot; the slot is free again when no array of that batch is
alive. Who keeps more than `spare` batches gets copies, so keeping them is always safe.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

from mindformers_vit.data.batches import Batch, Field

ALIGNMENT = 64  # bytes: a cache line


def slot_bytes(fields: Sequence[Field]) -> int:
    """The size of a slot that holds these arrays."""
    return sum(_aligned(_nbytes(field)) for field in fields)


def slot_arrays(memory: mmap.mmap, slot: int, fields: Sequence[Field]) -> Batch:
    """The arrays of one slot, as views; they all share one base array."""
    size = slot_bytes(fields)
    base = np.frombuffer(memory, np.uint8, count=size, offset=slot * size)
    arrays, start = {}, 0
    for field in fields:
        raw = base[start : start + _nbytes(field)]
        arrays[field.key] = raw.view(field.dtype).reshape(field.shape)
        start += _aligned(_nbytes(field))
    return arrays


def unnamed_file(size: int) -> int:
    """A file descriptor of `size` bytes of shared memory without a name."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("mindformers_vit_batches")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Ring:
    """`slots` slots, of which at most `spare` are in the user's hands as views."""

    def __init__(self, fields: Sequence[Field], slots: int, *, spare: int, shared: bool) -> None:
        self.fields = list(fields)
        self.size = slot_bytes(fields) * slots
        self.fd = unnamed_file(self.size) if shared else -1
        self.memory = mmap.mmap(self.fd, self.size)
        self._spare = spare
        self._free = deque(range(slots))
        self._given: set[int] = set()

    @property
    def available(self) -> int:
        """Slots that may be written now; the rest is kept for batches in the user's hands."""
        return len(self._free) + len(self._given) - self._spare

    def take(self) -> int:
        """A free slot, to be written."""
        return self._free.popleft()

    def put_back(self, slot: int) -> None:
        """The slot is not needed any more."""
        self._free.append(slot)

    def arrays(self, slot: int) -> Batch:
        """The arrays of a slot, to be written."""
        return slot_arrays(self.memory, slot, self.fields)

    def give(self, slot: int) -> Batch:
        """The batch in `slot`, now the user's."""
        arrays = self.arrays(slot)
        if len(self._given) >= self._spare:
            copies = {key: array.copy() for key, array in arrays.items()}
            self._free.append(slot)
            return copies
        self._given.add(slot)
        root = arrays["index"].base
        finalizer = weakref.finalize(root, _returned, slot, self._given, self._free)
        finalizer.atexit = False
        return arrays

    def close(self) -> None:
        """Close the file; the memory goes when the last batch that is a view of it goes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _returned(slot: int, given: set[int], free: deque[int]) -> None:
    given.discard(slot)
    free.append(slot)


def _nbytes(field: Field) -> int:
    return math.prod(field.shape) * np.dtype(field.dtype).itemsize


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
