"""Saves training checkpoints, and at the end the network alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.registry import callbacks


@callbacks.register("CheckpointMonitor")
class CheckpointMonitor(Callback):
    """Every `save_checkpoint_steps` updates, or every `save_checkpoint_epochs`, and at the end."""

    prefix: str = Field("mindformers", pattern=r"^[A-Za-z0-9_.]+$")  # of their names
    save_checkpoint_steps: int | None = Field(None, gt=0)
    save_checkpoint_epochs: int | None = Field(None, gt=0)
    keep_checkpoint_max: int = Field(5, gt=0)  # the newest ones
    keep_every_n_epochs: int | None = Field(None, gt=0)  # new: of these the newest stays for good
    checkpoint_format: Literal["safetensors", "ckpt"] = "safetensors"
    integrated_save: Any = None  # MindFormers': a checkpoint here is always whole
    async_save: bool = False  # write in a thread while training goes on

    def on_step_end(self, loop: TrainLoop) -> None:
        if self.save_checkpoint_steps and loop.global_step % self.save_checkpoint_steps == 0:
            loop.save()

    def on_epoch_end(self, loop: TrainLoop) -> None:
        every = self.save_checkpoint_epochs
        if every is None and self.save_checkpoint_steps is None:
            every = 1
        if every and loop.epoch % every == 0:
            loop.save()
