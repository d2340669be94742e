"""Keeps `report.html` up to date while training. Every run has it; the yaml does not name it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from mindformers_vit.data.sources import ImageSource, open_source
from mindformers_vit.engine import reporting
from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.loop import TrainLoop
from mindformers_vit.engine.painter import PICTURES, Painter
from mindformers_vit.engine.plan import Plan
from mindformers_vit.report.write import write_report

_SHARE = 0.002  # of the run's time that rewriting the page may take


class ReportWriter(Callback):
    """Writes at the start, when its share of the time allows it, and at the end.

    Pictures are painted after epochs 1, 2, 4, 8, ... and the last.
    """

    every_rank: ClassVar[bool] = False
    _plan: Any = PrivateAttr(None)
    _network: Any = PrivateAttr(None)
    _source: Any = PrivateAttr(None)  # what is evaluated
    _train_paths: Any = PrivateAttr(())
    _painter: Any = PrivateAttr(None)
    _answers: Any = PrivateAttr(None)  # of the last evaluation of a classifier
    _began: float = PrivateAttr(0.0)
    _spent: float = PrivateAttr(0.0)
    _works: bool = PrivateAttr(True)  # the last page could be written

    @classmethod
    def of(
        cls, plan: Plan, network: Any, train: ImageSource, evaluation: ImageSource | None
    ) -> ReportWriter:
        """The writer of one run."""
        writer = cls()
        writer._plan, writer._network = plan, network
        writer._source, writer._train_paths = evaluation, train.paths
        return writer

    def observe(self, answers: Any) -> None:
        """Keep what an evaluation of a classifier found."""
        self._answers = answers

    def on_train_begin(self, loop: TrainLoop) -> None:
        self._began = time.perf_counter()
        with reporting.harmless("writing report.html"):
            pictures = self._open_pictures()
            reporting.write_recipe(self._plan, loop.output_dir)
            reporting.note(
                loop.output_dir, step=loop.global_step, epoch=loop.epoch, pictures=pictures,
                environment=reporting.environment(),
            )  # fmt: skip
        self._write(loop)

    def on_epoch_end(self, loop: TrainLoop) -> None:
        is_power = loop.epoch & (loop.epoch - 1) == 0
        if self._painter is not None and (is_power or loop.epoch == loop.epochs):
            with reporting.harmless("painting pictures for report.html"):
                self._painter.paint(reporting.folder_of(loop.output_dir), loop.epoch)
        self._write_if_due(loop)

    def on_step_end(self, loop: TrainLoop) -> None:
        if loop.step < loop.steps_per_epoch:
            self._write_if_due(loop)

    def on_evaluate_end(self, loop: TrainLoop) -> None:
        if self._answers is None:
            return
        with reporting.harmless("writing report/evaluation.json"):
            reporting.write_evaluation(
                self._plan, loop.output_dir, self._answers, self._source, loop.metrics, loop.epoch
            )

    def on_train_end(self, loop: TrainLoop) -> None:
        with reporting.harmless("writing report.html"):
            end = {"end": _how_it_ended(loop), "step": loop.global_step, "epoch": loop.epoch}
            reporting.note(loop.output_dir, **end)
        self._write(loop)

    def _write_if_due(self, loop: TrainLoop) -> None:
        if self._works and self._spent <= _SHARE * (time.perf_counter() - self._began):
            self._write(loop)

    def _write(self, loop: TrainLoop) -> None:
        start, self._works = time.perf_counter(), False
        with reporting.harmless("writing report.html"):
            write_report(loop.output_dir)
            self._works = True
        self._spent += time.perf_counter() - start

    def _open_pictures(self) -> str:
        """Choose what to paint, for a masked autoencoder; says where the pictures are from."""
        if self._plan.labelled:
            return ""
        paths, words = self._held_out(), "Held-out pictures."
        if not paths:
            paths = self._train_paths
            words = "Pictures of the training set; eval_dataset would give held-out ones."
        every = max(1, len(paths) // PICTURES)
        self._painter = Painter(self._plan, self._network, paths[::every][:PICTURES])
        return words

    def _held_out(self) -> tuple[str, ...]:
        if self._source is not None:
            return tuple(self._source.paths)
        dataset = self._plan.run.eval_dataset
        given = dataset.data_loader.dataset_dir if dataset else ""
        if not given or not Path(given).expanduser().is_dir():
            return ()
        return open_source(given, labelled=False).paths


def _how_it_ended(loop: TrainLoop) -> str:
    error = sys.exc_info()[1]  # on_train_end is called on the way out of one, too
    if error is not None:
        return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    return "finished" if loop.global_step >= loop.total_steps else "stopped"
