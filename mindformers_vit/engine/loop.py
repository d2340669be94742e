"""The training loop. Everything optional is a callback; see `engine/callbacks/base.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindformers_vit.engine.parallel import ONE, World
from mindformers_vit.errors import CheckpointError, TrainingError

if TYPE_CHECKING:
    from mindformers_vit.checkpoint.store import CheckpointStore
    from mindformers_vit.data.loader import Loader
    from mindformers_vit.engine.callbacks.base import Callback
    from mindformers_vit.engine.train_step import TrainStep

logger = logging.getLogger(__name__)
_MAX_SKIPPED = 10  # updates in a row that gradients which are not finite may prevent


@dataclass(frozen=True)
class StepRecord:
    """One update of the weights."""

    loss: float  # mean over the images of the step
    lr: float  # peak of the parameter groups
    seconds: float  # data, compute and the read-back of the loss
    images: int
    finite: bool  # False: the gradients were not, and the update was skipped
    loss_scale: float
    grad_norm: float  # of the unscaled gradients, before clipping

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Length:
    """How long a run is, in steps (updates)."""

    epochs: int
    steps_per_epoch: int
    accumulation: int  # batches of a step
    max_steps: int | None = None  # stop early; the schedule stays that of the whole run
    batch_size: int = 0  # images of a batch, over all ranks
    images: int = 0  # of the data set

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


class TrainLoop:
    """Runs epochs of steps; callbacks read its public attributes and call `save`, `evaluate`.

    On several ranks every decision is the same on each: it hangs on what they have agreed upon.
    `epoch` counts from 1, `step` is the number of finished steps of that epoch, `global_step` of
    the run. `stop` makes it end after the current step.
    """

    record: StepRecord

    def __init__(
        self,
        *,
        length: Length,
        loader: Loader,
        train_step: TrainStep,
        learning_rate: Callable[[int], float],
        output_dir: Path,
        store: CheckpointStore,
        config_text: str,
        callbacks: Sequence[Callback] = (),
        evaluator: Callable[[], dict[str, float]] | None = None,
        save_network: Callable[[str], Path] | None = None,
        world: World = ONE,
    ) -> None:
        self.length, self.world = length, world
        self.epochs, self.steps_per_epoch = length.epochs, length.steps_per_epoch
        self.total_steps = length.total_steps
        self.output_dir = output_dir
        self.epoch, self.step, self.global_step = 1, 0, 0
        self.metrics: dict[str, float] = {}
        self.best: float | None = None
        self.stop = False
        self._loader, self._train_step = loader, train_step
        self._learning_rate = learning_rate
        self._store, self._config_text = store, config_text
        self._callbacks = list(callbacks)
        self._evaluator, self._save_network = evaluator, save_network
        self._saved_at = -1
        self._skipped: list[float] = []  # loss scales of the last updates, if these were skipped
        self._pace = 0.0  # seconds a step, smoothed
        self._steps_here = 0  # of this process

    def run(self) -> None:
        """Train from the current position to the end of the run."""
        self._call("on_train_begin")
        try:
            while not self._finished():
                self._run_epoch()
            self.save()
        finally:
            self._loader.close()
            self._call("on_train_end")

    def _finished(self) -> bool:
        limit = min(self.total_steps, self.length.max_steps or self.total_steps)
        return self.stop or self.global_step >= limit

    def _run_epoch(self) -> None:
        if self.step == self.steps_per_epoch:
            self.epoch, self.step = self.epoch + 1, 0
        self._call("on_epoch_begin")
        batches = self._loader.epoch(self.epoch - 1, self.step * self.length.accumulation)
        while self.step < self.steps_per_epoch and not self._finished():
            self._run_step(batches)
            self._call("on_step_end")
            self._stop_if_stuck()
        if self.step == self.steps_per_epoch:
            self._call("on_epoch_end")

    def _run_step(self, batches: Iterator[dict[str, Any]]) -> None:
        start = time.perf_counter()
        step_batches = islice(batches, self.length.accumulation)
        lr = self._learning_rate(self.global_step)
        result, self.stop = self.world.agree(self._train_step(step_batches, lr), self.stop)
        self.step += 1
        self.global_step += 1
        seconds = time.perf_counter() - start
        self.record = StepRecord(lr=lr, seconds=seconds, **result)
        self._steps_here += 1
        if self._steps_here > 1:  # the first one compiles
            self._pace = 0.9 * self._pace + 0.1 * seconds if self._pace else seconds

    def _stop_if_stuck(self) -> None:
        """End a run whose updates are all skipped; a loss scale that still falls may help it."""
        record = self.record
        scales = [] if record.finite else [*self._skipped, record.loss_scale][-_MAX_SKIPPED:]
        self._skipped = scales
        if len(scales) == _MAX_SKIPPED and len(set(scales)) == 1:
            raise TrainingError(
                f"epoch {self.epoch}, step {self.step} (update {self.global_step} of "
                f"{self.total_steps}): the gradients have not been finite for {_MAX_SKIPPED} "
                f"updates in a row, so none of these changed the weights (loss {record.loss}, "
                f"learning rate {record.lr:.4g}, loss scale {record.loss_scale:g}). A lower "
                f"learning rate, a longer warm-up or runner_wrapper.use_clip_grad may help"
            )

    def seconds_left(self) -> float:
        """Estimated from the recent steps."""
        return self._pace * (self.total_steps - self.global_step)

    def save(self) -> None:
        """Commit a training checkpoint of this moment, once; the first rank does it for all."""
        if self._saved_at == self.global_step or self.global_step == 0:
            return
        if not self.world.is_first:
            self._saved_at = self.global_step
            return
        saved = self._store.save(self._train_step.tensors(), self._state(), self._config_text)
        self._saved_at = self.global_step
        self._call("on_save", saved.path)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "global_step": self.global_step,
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": self.epochs,
            "batch_size": self.length.batch_size,
            "accumulation": self.length.accumulation,
            "images": self.length.images,
            "best": self.best,
            **self._train_step.state(),
        }

    def restore(self, tensors: dict[str, Any], state: dict[str, Any], where: str) -> None:
        """Go on exactly where a checkpoint was taken."""
        here = self._state()
        for name in ("epochs", "batch_size", "accumulation", "steps_per_epoch", "images"):
            if state.get(name) != here[name]:
                raise CheckpointError(
                    f"{where}: was written by a run with {name} {state.get(name)}, this one has "
                    f"{here[name]}; the updates would not be the same. Resume "
                    f"with the settings of that run, or start anew with run_mode finetune"
                )
        self._train_step.load(tensors, state)
        self.epoch, self.step = state["epoch"], state["step"]
        self.global_step, self.best = state["global_step"], state["best"]
        self._saved_at = self.global_step
        logger.info(
            "resumed %s: epoch %d, step %d/%d", where, self.epoch, self.step, self.steps_per_epoch
        )

    def evaluate(self) -> None:
        """Evaluate now; a new best accuracy is kept as a network of its own."""
        if self._evaluator is None:
            return
        self.metrics = self._evaluator()
        self._call("on_evaluate_end")
        accuracy = self.metrics.get("Top1 Accuracy")
        if accuracy is not None and (self.best is None or accuracy > self.best):
            self.best = accuracy
            if self._save_network is not None:
                self._save_network("best")
            if self._saved_at == self.global_step:  # that checkpoint knows the old best
                self._saved_at = -1
                self.save()

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, hook)(self, *arguments)
