"""When a training checkpoint is written, by whom, and what a failure means.

While older checkpoints exist, one that cannot be written is a warning, and training goes on;
without any, or for the last one of a run, it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindformers_vit.errors import SaveError, TrainingError

if TYPE_CHECKING:
    from mindformers_vit.checkpoint.store import Checkpoint, CheckpointStore

logger = logging.getLogger(__name__)


class Saver:
    """Saves through a store.

    Args:
        in_background: write in a thread, one checkpoint at a time, while training goes on.
    """

    def __init__(
        self, store: CheckpointStore, config_text: str, *, in_background: bool = False
    ) -> None:
        self._store, self._config_text = store, config_text
        self._thread = ThreadPoolExecutor(1, "checkpoint") if in_background else None
        self._pending: Future[Checkpoint] | None = None
        self.failed = False  # the newest save did, and training went on

    def save(
        self,
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        *,
        best: bool,
        last: bool = False,
    ) -> Path | None:
        """Write a checkpoint, or begin to; what `finish` gives, waiting for one begun before.

        Raises:
            TrainingError: a tensor is not finite; nothing is written.
            SaveError: as `finish`.
        """
        _refuse_not_finite(tensors)
        done = self.finish(wait=True)
        if self._thread is None:
            self._pending = Future()
            try:
                self._pending.set_result(self._write(tensors, state, best))
            except SaveError as error:
                self._pending.set_exception(error)
            return self.finish(last=last)
        self._pending = self._thread.submit(self._write, tensors, state, best)
        return done

    def finish(self, *, wait: bool = False, last: bool = False) -> Path | None:
        """The checkpoint that has been committed since the last call, if any.

        Args:
            wait: for one that is being written.
            last: no later one will make up for a failure.

        Raises:
            SaveError: it could not be written, and there is no older one, or it was the last.
        """
        pending = self._pending
        if pending is None or not (wait or pending.done()):
            return None
        self._pending, self.failed = None, True
        try:
            committed = pending.result().path
        except SaveError as error:
            older = self._store.list()
            if last or not older:
                raise
            logger.warning("%s; training goes on, the newest is %s", error, older[0].path)
            return None
        self.failed = False
        return committed

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown()

    def _write(
        self, tensors: Mapping[str, Any], state: Mapping[str, Any], best: bool
    ) -> Checkpoint:
        return self._store.save(tensors, state, self._config_text, best=best)


def _refuse_not_finite(tensors: Mapping[str, Any]) -> None:
    bad = [n for n, a in tensors.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise TrainingError(
            f"{', '.join(bad[:3])}{more}: not finite, so no checkpoint is written; the ones before "
            "are untouched. A lower learning rate or runner_wrapper.use_clip_grad may help"
        )
