"""The training loop. Everything optional is a callback; see `engine/callbacks/base.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindformers_vit.engine.bad_batch import save_step_batch
from mindformers_vit.engine.parallel import ONE, World
from mindformers_vit.engine.signals import Signals
from mindformers_vit.errors import Interrupted, SaveError, TrainingError

if TYPE_CHECKING:
    from mindformers_vit.data.loader import Loader
    from mindformers_vit.engine.callbacks.base import Callback
    from mindformers_vit.engine.saver import Saver
    from mindformers_vit.engine.train_step import TrainStep

logger = logging.getLogger(__name__)


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

    @property
    def last_step(self) -> int:
        return min(self.total_steps, self.max_steps or self.total_steps)


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
        saver: Saver,
        signals: Signals | None = None,
        max_skipped: int = 10,
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
        self.best_step, self.evaluated_step = -1, -1  # global steps, -1: none
        self.skipped = 0  # updates that gradients which are not finite have prevented
        self.stop = False
        self._loader, self._train_step = loader, train_step
        self._learning_rate = learning_rate
        self._saver, self._signals = saver, signals or Signals()
        self._told: int | None = None  # the signal that one of the ranks has received
        self._max_skipped = max_skipped
        self._callbacks = list(callbacks)
        self._evaluator, self._save_network = evaluator, save_network
        self._saved_at = -1
        self._stuck: list[float] = []  # loss scales of the last updates, if these were skipped
        self._pace = 0.0  # seconds a step, smoothed
        self._steps_here = 0  # of this process

    def run(self) -> None:
        """Train from the current position to the end of the run."""
        self._call("on_train_begin")
        try:
            if self.step == self.steps_per_epoch:  # it may have been killed in the evaluation
                self._call("on_epoch_end")
            while not self._finished():
                self._run_epoch()
            self.save(last=True)
        except Interrupted as signal:
            logger.warning("%s: saving, then the end; a second signal ends at once", signal)
            self.save(last=True)
            logger.info("the same command goes on from update %d", max(self._saved_at, 0))
            raise
        finally:
            self._saver.close()
            self._loader.close()
            self._call("on_train_end")

    def _finished(self) -> bool:
        return self.stop or self.global_step >= self.length.last_step

    def _run_epoch(self) -> None:
        if self.step == self.steps_per_epoch:
            self.epoch, self.step = self.epoch + 1, 0
        self._call("on_epoch_begin")
        batches = self._loader.epoch(self.epoch - 1, self.step * self.length.accumulation)
        while self.step < self.steps_per_epoch and not self._finished():
            self._run_step(batches)
            self._count_skipped()
            self._call("on_step_end")
            self._stop_if_stuck()
            self._note_saved(self._saver.finish())
            self._check_signals()
        if self.step == self.steps_per_epoch:
            self._call("on_epoch_end")

    def _check_signals(self) -> None:
        """Raise Interrupted where a signal asks for it; on every rank after the same update."""
        if self.world.size == 1:
            self._signals.check()
        elif self._told is not None:
            raise Interrupted(self._told)

    def _run_step(self, batches: Iterator[dict[str, Any]]) -> None:
        start = time.perf_counter()
        step_batches = islice(batches, self.length.accumulation)
        lr = self._learning_rate(self.global_step)
        first = self._steps_here == 0  # it compiles, and until it is done nothing is lost
        with self._signals.at_once() if first else nullcontext():
            result = self._train_step(step_batches, lr)
        result, self.stop, self._told = self.world.agree(result, self.stop, self._signals.received)
        self.step += 1
        self.global_step += 1
        seconds = time.perf_counter() - start
        self.record = StepRecord(lr=lr, seconds=seconds, **result)
        self._steps_here += 1
        if self._steps_here > 1:  # the first one compiles
            self._pace = 0.9 * self._pace + 0.1 * seconds if self._pace else seconds

    def _count_skipped(self) -> None:
        if self.record.finite:
            self._stuck = []
            return
        self.skipped += 1
        self._stuck = [*self._stuck, self.record.loss_scale][-self._max_skipped :]
        logger.warning("%s: not finite, skipped; %d so far", self._where(), self.skipped)

    def _where(self) -> str:
        update = f"update {self.global_step} of {self.total_steps}"
        return f"epoch {self.epoch}, step {self.step} ({update})"

    def _stop_if_stuck(self) -> None:
        """End a run whose updates are all skipped; a loss scale that still falls may help it."""
        record, most = self.record, self._max_skipped
        if len(self._stuck) < most or len(set(self._stuck)) > 1:
            return
        place = (self.epoch, self.step, self.length.accumulation)
        batch = save_step_batch(self._loader, self.output_dir, *place, self.world)
        raise TrainingError(
            f"{self._where()}: the gradients have not been finite for {most} "
            f"updates in a row, so none of these changed the weights (loss {record.loss}, "
            f"learning rate {record.lr:.4g}, loss scale {record.loss_scale:g}). The last batch is "
            f"{batch}. A lower learning rate, a longer warm-up or "
            "runner_wrapper.use_clip_grad may help"
        )

    def seconds_left(self) -> float:
        """Estimated from the recent steps."""
        return self._pace * (self.total_steps - self.global_step)

    def save(self, *, last: bool = False) -> None:
        """Commit a training checkpoint of this moment, once; `last`: none will come after it.

        The first rank does it for all.
        """
        if not self.world.is_first:
            self._saved_at = self.global_step
            return
        self._note_saved(self._saver.finish(wait=last))
        if self.global_step in (0, self._saved_at) and not self._saver.failed:
            return
        tensors, best = self._train_step.tensors(), self.best_step == self.global_step
        self._saved_at = self.global_step
        self._note_saved(self._saver.save(tensors, self._state(), best=best, last=last))
        self._note_saved(self._saver.finish(wait=last, last=last))

    def _note_saved(self, path: Path | None) -> None:
        if path is not None:
            self._call("on_save", path)

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
            "best_step": self.best_step,
            "evaluated_step": self.evaluated_step,
            "skipped": self.skipped,
            **self._train_step.state(),
        }

    def restore(self, tensors: dict[str, Any], state: dict[str, Any], where: str) -> None:
        """Go on exactly where a checkpoint was taken, or as far into an epoch of other length."""
        self._train_step.load(tensors, state)
        self.epoch = state["epoch"]
        self.step = state["step"] * self.steps_per_epoch // state["steps_per_epoch"]
        self.global_step = (self.epoch - 1) * self.steps_per_epoch + self.step
        self.best, self.best_step = state["best"], state.get("best_step", -1)
        self.evaluated_step = state.get("evaluated_step", -1)
        self.skipped = state.get("skipped", 0)
        self._saved_at = self.global_step
        logger.info(
            "resumed %s: epoch %d, step %d/%d", where, self.epoch, self.step, self.steps_per_epoch
        )

    def evaluate(self) -> None:
        """Evaluate now; a new best accuracy is kept as a network of its own."""
        if self._evaluator is None:
            return
        if self.world.size > 1:  # a signal would end one rank's part while others wait for it
            self.save()
        self.metrics = self._evaluator()
        self.evaluated_step = self.global_step
        self._call("on_evaluate_end")
        accuracy = self.metrics.get("Top1 Accuracy")
        better = accuracy is not None and (self.best is None or accuracy > self.best)
        if better and self._keep_best():
            self.best, self.best_step = accuracy, self.global_step
        if self._saved_at == self.global_step:  # that checkpoint does not know of it
            self._saved_at = -1
            self.save()

    def _keep_best(self) -> bool:
        """Whether the network could be written; that it could not is no reason to end."""
        try:
            if self._save_network is not None:
                self._save_network("best")
        except SaveError as error:
            logger.warning("%s; the best network stays the one before, training goes on", error)
            return False
        return True

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, hook)(self, *arguments)
