"""Says how training goes: MindFormers' log line, and on a terminal a progress bar with the ETA."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from pydantic import Field, PrivateAttr
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.registry import callbacks

logger = logging.getLogger(__name__)


@callbacks.register("MFLossMonitor", "LossMonitor")
class LossMonitor(Callback):
    """Logs every `per_print_times` steps; on a terminal a bar instead shows the rest."""

    per_print_times: int = Field(1, gt=0)
    _bar: Any = PrivateAttr(None)
    _redirect: Any = PrivateAttr(None)

    def on_train_begin(self, loop: TrainLoop) -> None:
        if sys.stderr.isatty():
            self._redirect = logging_redirect_tqdm([logging.getLogger("mindformers_vit")])
            self._redirect.__enter__()
            self._bar = tqdm(
                total=loop.total_steps, initial=loop.global_step, unit="step", dynamic_ncols=True
            )

    def on_step_end(self, loop: TrainLoop) -> None:
        record = loop.record
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{record.loss:.4f}", lr=f"{record.lr:.2e}", refresh=False)
            self._bar.update(1)
        last = loop.step == loop.steps_per_epoch
        if loop.global_step % self.per_print_times == 0 or last:
            for line in format_lines(loop):
                logger.info(line)

    def on_train_end(self, loop: TrainLoop) -> None:
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(None, None, None)


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
