"""Evaluation during training."""

from __future__ import annotations

import logging

from pydantic import Field

from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.registry import callbacks

logger = logging.getLogger(__name__)


@callbacks.register("EvalCallBack")
class EvaluateCallback(Callback):
    """Every `epoch_interval` epochs from epoch `start_epoch` on, and after the last one."""

    epoch_interval: int = Field(1, gt=0)
    start_epoch: int = Field(0, ge=0)

    def on_epoch_end(self, loop: TrainLoop) -> None:
        due = loop.epoch >= self.start_epoch and loop.epoch % self.epoch_interval == 0
        if (due or loop.epoch == loop.epochs) and loop.evaluated_step != loop.global_step:
            loop.evaluate()
            logger.info("epoch %d: %s", loop.epoch, loop.metrics)
