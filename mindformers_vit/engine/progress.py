"""The live line of a terminal: one an epoch, with bar, loss, learning rate, speed and time left.

epoch  3/12 ██████████████▌      45/80  loss 0.6231  lr 1.4e-03  1019 img/s  ETA 01:14
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from mindformers_vit.engine.loop import TrainLoop

_FORMAT = "{desc} {bar} {n_fmt}/{total_fmt}  {unit}"  # `{postfix}` would begin with a comma
LOG_ONLY = {"log_only": True}  # `extra` of a message that the live line already says


class Progress:
    """Shows the line until `close`; other messages of the package go above it."""

    def __init__(self) -> None:
        from tqdm.contrib.logging import logging_redirect_tqdm  # takes 40 ms

        self._bar: Any = None
        self._images, self._seconds = 0, 0.0  # of this epoch
        self._said = "compiling, once a run"
        self._stack = ExitStack()
        logger = logging.getLogger("mindformers_vit")
        self._stack.enter_context(logging_redirect_tqdm([logger]))
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not hasattr(record, "log_only"))

    def begin_epoch(self, loop: TrainLoop) -> None:
        self._images, self._seconds = 0, 0.0
        self._bar = tqdm(
            total=loop.steps_per_epoch,
            initial=loop.step,
            desc=f"epoch {loop.epoch:>{len(str(loop.epochs))}}/{loop.epochs}",
            bar_format=_FORMAT,
            unit=self._said,
            dynamic_ncols=True,
        )

    def step(self, loop: TrainLoop) -> None:
        record = loop.record
        self._images += record.images
        self._seconds += record.seconds
        self._said = (
            f"loss {record.loss:.4f}  lr {record.lr:.1e}  "
            f"{self._images / max(self._seconds, 1e-9):.0f} img/s  ETA {clock(loop.seconds_left())}"
        )
        self._bar.unit = self._said
        self._bar.update(1)
        if loop.step == loop.steps_per_epoch:
            self._end_line()

    def close(self) -> None:
        self._end_line()
        self._stack.close()

    def _end_line(self) -> None:
        """Leave the line where it is, with its last figures."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


def clock(seconds: float) -> str:
    """01:14, 2:03:09, 1 d 02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"
