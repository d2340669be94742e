"""Numbers for programs: `metrics.jsonl` (one object a line) and TensorBoard event files."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from mindformers_vit.checkpoint import files
from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.registry import callbacks

logger = logging.getLogger(__name__)


@callbacks.register("MetricsWriter", "SummaryMonitor")
class MetricsWriter(Callback):
    """Writes into the output directory; a resumed run appends."""

    every_rank: ClassVar[bool] = False
    every_steps: int = Field(1, gt=0)
    tensorboard: bool = True
    keep_default_action: Any = None  # MindFormers' SummaryMonitor
    _file: Any = PrivateAttr(None)
    _board: Any = PrivateAttr(None)

    def on_train_begin(self, loop: TrainLoop) -> None:
        path = loop.output_dir / "metrics.jsonl"
        _drop_after(path, loop)
        self._file = path.open("ab", buffering=0)
        if self.tensorboard:
            self._board = Board(loop.output_dir / "summary" / "rank_0")

    def on_step_end(self, loop: TrainLoop) -> None:
        if loop.global_step % self.every_steps == 0:
            record = loop.record
            self._write(
                loop,
                loss=record.loss,
                lr=record.lr,
                grad_norm=record.grad_norm,
                finite=record.finite,
                loss_scale=record.loss_scale,
                images_per_second=round(record.images_per_second, 3),
            )

    def on_evaluate_end(self, loop: TrainLoop) -> None:
        self._write(loop, **loop.metrics)

    def on_train_end(self, loop: TrainLoop) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, loop: TrainLoop, **values: Any) -> None:
        place = {"step": loop.global_step, "epoch": loop.epoch}
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}  # JSON has no NaN
        try:
            self._file.write((json.dumps(place | finite, allow_nan=False) + "\n").encode())
        except OSError as error:
            logger.warning("%s: the numbers of a step are lost: %s", self._file.name, error)
        if self._board is not None:
            self._board.add(values, loop.global_step)


class Board:
    """An event file for TensorBoard, written by tensorboardX.

    That imports torch for a type hint, which takes seconds: here it finds none.
    """

    def __init__(self, folder: Path) -> None:
        modules: dict[str, Any] = sys.modules
        known = "torch" in modules
        modules.setdefault("torch", None)  # to import it is an ImportError
        try:
            from tensorboardX.proto.summary_pb2 import Summary
            from tensorboardX.writer import FileWriter
        finally:
            if not known:
                del modules["torch"]
        self._summary, self._writer = Summary, FileWriter(str(folder))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """All in one event: one for each takes 1.3 ms longer."""
        value = self._summary.Value
        named = [value(tag=k.replace(" ", "_"), simple_value=v) for k, v in values.items()]
        self._writer.add_summary(self._summary(value=named), step)

    def close(self) -> None:
        self._writer.close()


def _drop_after(path: Path, loop: TrainLoop) -> None:
    """Forget what a resumed run does again (steps, an evaluation) and a line cut by a kill."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            values = json.loads(line)
            last = loop.global_step if "lr" in values else loop.evaluated_step
            if values["step"] <= last:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    with files.replacing(path) as temporary:
        files.write_file(temporary, "".join(kept).encode())


@callbacks.register("ObsMonitor")
class ObsMonitor(Callback):
    """MindFormers' upload to object storage; accepted, does nothing."""
