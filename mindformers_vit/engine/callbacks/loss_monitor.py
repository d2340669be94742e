"""Says how training goes: MindFormers' log line, and on a terminal a live line instead."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from pydantic import Field, PrivateAttr

from mindformers_vit.engine import progress
from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.registry import callbacks

logger = logging.getLogger(__name__)


@callbacks.register("MFLossMonitor", "LossMonitor")
class LossMonitor(Callback):
    """Logs every `per_print_times` steps; a terminal shows the live line, the log file has both."""

    per_print_times: int = Field(1, gt=0)
    _live: Any = PrivateAttr(None)

    def on_train_begin(self, loop: TrainLoop) -> None:
        if sys.stderr.isatty():  # anywhere else a live line is a mess of carriage returns
            self._live = progress.Progress()

    def on_epoch_begin(self, loop: TrainLoop) -> None:
        if self._live is not None:
            self._live.begin_epoch(loop)

    def on_step_end(self, loop: TrainLoop) -> None:
        if self._live is not None:
            self._live.step(loop)
        last = loop.step == loop.steps_per_epoch
        if loop.global_step % self.per_print_times == 0 or last:
            for line in format_lines(loop):
                logger.info(line, extra=progress.LOG_ONLY if self._live else None)

    def on_train_end(self, loop: TrainLoop) -> None:
        if self._live is not None:
            self._live.close()


def format_lines(loop: TrainLoop) -> list[str]:
    """The two lines that MindFormers' users (and their scripts) know."""
    record = loop.record
    epochs, steps = loop.epochs, loop.steps_per_epoch
    epoch = f"{loop.epoch:>{len(str(epochs))}}/{epochs}"
    step = f"{loop.step:>{len(str(steps))}}/{steps}"
    done = loop.global_step / loop.total_steps
    bar = "█" * round(50 * done)
    clock = time.strftime("%H:%M:%S", time.gmtime(loop.seconds_left()))
    days = int(loop.seconds_left() // 86400)
    left = f"{days} d {clock}" if days else clock
    speed = record.images_per_second / loop.world.size
    return [
        f"{{ Epoch:[{epoch}], step:[{step}], loss: {record.loss:.6f}, "
        f"per_step_time: {1000 * record.seconds:.0f}ms, lr: {record.lr:.6g}, "
        f"overflow cond: {not record.finite}, loss_scale: {record.loss_scale:.1f} }}",
        f"{100 * done:7.1f}% |{bar:<50}| {speed:.2f} samples/s/p  {left} }}",
    ]
