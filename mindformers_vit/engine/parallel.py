"""Data parallelism: which rank this process is, and the few things that ranks say to each other.

Each rank computes the gradients of its part of the global batch, their mean is taken once an
update, and so the weights stay the same on every rank. The ranks are started by
`scripts/run_distribute.sh` or by msrun, which say in the environment who is who.

On CPU the collectives of MindSpore 2.10 know one operation, the sum of float32; all is made of it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindformers_vit import compat
from mindformers_vit.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from mindformers_vit.config.schema import RunConfig

logger = logging.getLogger(__name__)
Array = np.ndarray[Any, Any]
Tensors = Callable[[], Mapping[str, Array]]  # by name; asked for only where there are others


@dataclass(frozen=True)
class World:
    """This process among the processes of a run."""

    rank: int = 0
    size: int = 1
    is_scheduler: bool = False  # msrun's: it introduces the ranks to each other, and waits

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what all share."""
        return self.rank == 0

    def agree(
        self, result: Mapping[str, Any], stop: bool, signal: int | None = None
    ) -> tuple[dict[str, Any], bool, int | None]:
        """The result of a step over all ranks, whether any wants to stop, a signal to any."""
        if self.size == 1:
            return dict(result), stop, signal
        own = np.array([result["loss"], stop, signal or 0], np.float64)
        told = np.array(gather(self, own))  # (ranks, 3)
        whole = {"loss": float(told[:, 0].mean()), "images": result["images"] * self.size}
        return {**result, **whole}, bool(told[:, 1].any()), int(told[:, 2].max()) or None


ONE = World()


def world_of(run: RunConfig, environment: Mapping[str, str] | None = None) -> World:
    """The world that the launcher's variables describe; one process without `use_parallel`.

    Raises:
        ConfigError: `use_parallel` and the environment do not fit together.
    """
    found = os.environ if environment is None else environment
    size = found.get("MS_WORKER_NUM") or found.get("RANK_SIZE")
    if not run.use_parallel:
        if found.get("MS_ROLE") and size not in (None, "1"):
            raise ConfigError(
                f"use_parallel: False given, but this process was started as one of {size} ranks, "
                "which would all do the same; give --use_parallel True"
            )
        return ONE
    if run.run_mode == "predict":
        raise ConfigError("use_parallel: True given, but prediction runs in one process")
    if found.get("MS_ROLE") == "MS_SCHED":
        return World(is_scheduler=True)
    rank = found.get("RANK_ID") or found.get("MS_NODE_ID")
    if not (size and size.isdecimal() and rank and rank.isdecimal() and int(rank) < int(size)):
        raise ConfigError(
            f"use_parallel: True given, but the environment names no rank (RANK_ID {rank}, "
            f"RANK_SIZE {size}); start the ranks with scripts/run_distribute.sh, or msrun (on "
            "several servers with --node_rank)"
        )
    return World(int(rank), int(size))


def device_id(world: World, configured: int) -> int:
    """The device of this process: the launcher's choice where it has started several."""
    return int(os.environ.get("DEVICE_ID", configured)) if world.size > 1 else configured


def join(world: World) -> None:
    """Meet the other ranks; the device must have been set. The scheduler returns at the end.

    Raises:
        ConfigError: on CPU without the dynamic cluster.
        TrainingError: the ranks do not find each other, or know each other by other numbers.
    """
    if world.size == 1 and not world.is_scheduler:
        return
    from mindspore import communication

    if compat.device() == "CPU" and "MS_ROLE" not in os.environ:
        raise ConfigError(
            "use_parallel: a rank table is for Ascend; on CPU start the ranks with "
            "scripts/run_distribute.sh CONFIG [0,2] RUN_MODE -- --device_target CPU"
        )
    try:
        with undisturbed():
            communication.init()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"rank {world.rank} cannot meet the others: {reason}") from error
    if world.is_scheduler:
        return
    met = communication.get_rank(), communication.get_group_size()
    if met != (world.rank, world.size):
        raise TrainingError(
            f"started as rank {world.rank} of {world.size}, but met as {met[0]} of {met[1]}"
        )


@contextmanager
def undisturbed() -> Iterator[None]:
    """The threads that are started meanwhile do not interrupt the one that starts them.

    MindSpore's cluster loses a connection whose event is handled before its maker goes on; where
    both share a core that is nearly each, and two ranks met after 35 to 92 s instead of 4 to 8.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    changed = _schedule(os.SCHED_OTHER, os.SCHED_BATCH, 0)  # which threads inherit
    try:
        yield
    finally:
        if changed:
            _schedule(os.SCHED_BATCH, os.SCHED_OTHER, 0)
            with suppress(OSError):
                for thread in Path("/proc/self/task").iterdir():
                    _schedule(os.SCHED_BATCH, os.SCHED_OTHER, int(thread.name))


def _schedule(before: int, after: int, thread: int) -> bool:
    """Give a thread that has the one policy the other; False where it has not, or may not."""
    try:
        if os.sched_getscheduler(thread) != before:
            return False
        os.sched_setscheduler(thread, after, os.sched_param(0))
    except OSError:  # forbidden, so that meeting takes longer; or the thread has ended
        return False
    return True


def gather(world: World, values: Array) -> list[Array]:
    """The array of each rank, exactly; all have one shape and type."""
    if world.size == 1:
        return [values]
    import mindspore as ms
    from mindspore import ops

    raw = np.frombuffer(values.tobytes() + b"\0" * (values.nbytes % 2), np.uint16)
    told = np.zeros((world.size, len(raw)), np.float32)  # float32 holds 16 bits exactly
    told[world.rank] = raw
    heard = ops.AllReduce()(ms.Tensor(told)).asnumpy().astype(np.uint16)
    return [
        np.frombuffer(row.tobytes()[: values.nbytes], values.dtype).reshape(values.shape)
        for row in heard
    ]


def different_ranks(world: World, tensors: Mapping[str, Array], step: int) -> list[int]:
    """The ranks that do not hold the same bits as rank 0 after the same number of updates."""
    total = hashlib.sha256(str(step).encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(np.ascontiguousarray(tensors[name]).tobytes())
    digests = gather(world, np.frombuffer(total.digest(), np.uint8))
    return [r for r, digest in enumerate(digests) if digest.tobytes() != digests[0].tobytes()]


def check_start(world: World, tensors: Tensors, step: int) -> None:
    """Refuse to train from weights that differ between the ranks.

    Raises:
        TrainingError: it names the ranks.
    """
    if world.size > 1 and (other := different_ranks(world, tensors(), step)):
        raise TrainingError(
            f"rank {_names(other)} would start from other weights or at another step than rank 0: "
            "output_dir and load_checkpoint must be the same files on every server"
        )


def check_end(world: World, tensors: Tensors, step: int) -> None:
    """Refuse to call a run finished whose ranks have drifted apart.

    Raises:
        TrainingError: it names the ranks.
    """
    if world.size == 1:
        return
    if other := different_ranks(world, tensors(), step):
        raise TrainingError(
            f"the weights of rank {_names(other)} are not those of rank 0 any more; a device that "
            "computes wrongly is the likely reason. The checkpoints of this run are rank 0's"
        )
    logger.info("the %d ranks hold the same weights to the last bit", world.size)


def _names(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
