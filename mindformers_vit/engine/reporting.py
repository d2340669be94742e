"""What a run writes for its report: where it started, on what, and what an evaluation found.

A report is worth nothing beside the run: whatever goes wrong here is one warning.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit import compat
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.data.sources import ImageSource
from mindformers_vit.engine.output import config_text
from mindformers_vit.engine.plan import Plan, make_plan
from mindformers_vit.errors import ConfigError
from mindformers_vit.report.confusion import evaluation_of
from mindformers_vit.report.facts import EVALUATION, FOLDER, RECIPE, STARTS
from mindformers_vit.report.write import NAME, replace_text, write_report

logger = logging.getLogger(__name__)
PATHS = (FOLDER, NAME)  # what a report is, in the output directory


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Turn an error into a warning, so that it does not end the run."""
    try:
        yield
    except Exception as error:
        logger.warning("%s failed, the run goes on: %s: %s", what, type(error).__name__, error)


def folder_of(directory: Path) -> Path:
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def note(directory: Path, **values: Any) -> None:
    """One more line in the history of the run."""
    line = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **values}
    with (folder_of(directory) / STARTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def environment() -> dict[str, str]:
    """What a run depends on besides its configuration."""
    versions = {name: importlib.metadata.version(name) for name in ("mindspore", "numpy", "pillow")}
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": compat.device(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **versions,
        "system": platform.platform(terse=True),
    }


def write_recipe(plan: Plan, directory: Path) -> None:
    """The recipe as it would be resolved without any flag, to be compared with the run.

    Where only flags name an evaluation data set, its defaults are the recipe's, too.
    """
    path = folder_of(directory) / RECIPE
    path.unlink(missing_ok=True)
    if plan.recipe is None:
        return
    try:
        values = load_yaml(plan.recipe)
        if plan.run.eval_dataset is not None:
            values = {"eval_dataset": {}, **values}
        content = config_text(make_plan(values))
    except ConfigError:  # a recipe that needs flags to be whole
        return
    replace_text(path, content)


def write_evaluation(
    plan: Plan, directory: Path, answers: Any, source: ImageSource,
    metrics: dict[str, float], epoch: int | None = None,
) -> None:  # fmt: skip
    """What a classifier's evaluation found; `answers` (N, 4) as `report.confusion` makes them."""
    labels = getattr(plan.network, "id2label", None) or {}
    classes = source.classes or [labels[k] for k in sorted(labels)]
    found = evaluation_of(answers, source.paths, classes, metrics=metrics, epoch=epoch)
    replace_text(folder_of(directory) / EVALUATION, found.model_dump_json() + "\n")


def after_evaluation(
    plan: Plan, directory: Path, answers: Any, source: ImageSource, metrics: dict[str, float],
) -> None:  # fmt: skip
    """The report of a run that only evaluates; only a classifier has answers."""
    with harmless("writing report.html"):
        write_recipe(plan, directory)
        note(directory, end="evaluated", environment=environment())
        found = np.zeros((0, 4)) if answers is None else answers
        write_evaluation(plan, directory, found, source, metrics)
        write_report(directory)
