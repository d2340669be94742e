"""The hooks of a training run.

```
on_train_begin
  for each epoch:
    on_epoch_begin
      for each step:            # a step is one update of the weights
        on_step_end             # loop.record describes the step
    on_epoch_end                # evaluation happens here
      on_evaluate_end           # loop.metrics are new
  on_save                       # after a checkpoint has been committed, at any step
on_train_end                    # also after a stop or an error
```
A callback is its own settings: the keys of its yaml entry are its fields, its state is private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mindformers_vit.config.strict import StrictModel

if TYPE_CHECKING:
    from pathlib import Path

    from mindformers_vit.engine.loop import TrainLoop


class Callback(StrictModel):
    """Base of every callback; each hook does nothing until overridden."""

    every_rank: ClassVar[bool] = True  # False: writes what is common, so on the first rank only

    def on_train_begin(self, loop: TrainLoop) -> None:
        """Everything is built and, when resuming, restored; no step has run."""

    def on_epoch_begin(self, loop: TrainLoop) -> None:
        """Before the first step of an epoch (or of the rest of one, when resuming)."""

    def on_step_end(self, loop: TrainLoop) -> None:
        """After an update; `loop.record` holds loss, lr, time."""

    def on_epoch_end(self, loop: TrainLoop) -> None:
        """After the last step of an epoch; again, when a run is resumed exactly there."""

    def on_evaluate_end(self, loop: TrainLoop) -> None:
        """After an evaluation; `loop.metrics` holds its result."""

    def on_save(self, loop: TrainLoop, path: Path) -> None:
        """After the checkpoint directory `path` is complete on disk."""

    def on_train_end(self, loop: TrainLoop) -> None:
        """Always called, to close what on_train_begin opened."""
