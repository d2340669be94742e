"""Going on with a run, or starting a new one where another has been.

`resume_training: auto` takes the newest valid checkpoint of this run in its output directory if
there is one; True demands one; False starts a new run and moves what was there out of its way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.manifest import FILE_NAME
from mindformers_vit.checkpoint.store import CONFIG, STATE, CheckpointStore
from mindformers_vit.config.loader import parse_yaml
from mindformers_vit.engine import reporting
from mindformers_vit.engine.callbacks.checkpoint_monitor import CheckpointMonitor
from mindformers_vit.engine.loop import Length
from mindformers_vit.engine.output import config_text as written
from mindformers_vit.engine.plan import Plan, make_plan
from mindformers_vit.engine.saver import Saver
from mindformers_vit.engine.weights import newest_checkpoint
from mindformers_vit.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)
_FINISHED = "finished.json"
_NETWORK = "checkpoint_network/rank_0/network.yaml"
_COUNTED = {  # in a checkpoint's state: what no setting alone tells
    "batch_size": "global batch (runner_config.batch_size x ranks)",
    "images": "images of the training data set",
}
_SHOWN = 12  # settings that differ
_MAPS = "train_dataset.data_loader.label_map_dir"
_MAY_CHANGE = (  # when resuming: these do not touch an update
    "run_mode", "output_dir", "resume_training", "force_resume", "do_eval", "callbacks",
    "eval_dataset", "predict", "processor", "metric", "context.device", "context.max_device_memory",
    "runner_config.max_steps", "runner_config.max_skipped_steps",
    "train_dataset.data_loader.dataset_dir", _MAPS,
    "train_dataset.max_bad_samples",
    "train_dataset.data_loader.num_parallel_workers", "train_dataset.num_parallel_workers",
    "model.model_config.checkpoint_name_or_path",
    "use_parallel", "runner_config.batch_size",  # their product is compared
)  # fmt: skip


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint to go on from."""

    path: Path
    state: Mapping[str, Any]
    finished: bool  # the run has come to its end, and its network is saved
    own: bool  # it lies in the run's output directory

    @property
    def named(self) -> str:
        """The path and why it was taken."""
        return f"{self.path}, {'the newest valid checkpoint of this run' if self.own else 'given'}"

    def __str__(self) -> str:
        return f"{self.path} (epoch {self.state['epoch']}, step {self.state['step']})"


def saver_of(plan: Plan, directory: Path, config_text: str) -> Saver:
    """What saves the training checkpoints of a run."""
    in_background = _monitor(plan).async_save
    return Saver(_store_of(plan, directory), config_text, in_background=in_background)


def _monitor(plan: Plan) -> CheckpointMonitor:
    monitors = [c for c in plan.callbacks if isinstance(c, CheckpointMonitor)]
    return monitors[0] if monitors else CheckpointMonitor()


def _store_of(plan: Plan, directory: Path) -> CheckpointStore:
    settings = _monitor(plan)
    return CheckpointStore(
        directory / "checkpoint" / "rank_0",
        prefix=settings.prefix,
        keep_max=settings.keep_checkpoint_max,
        keep_every_n_epochs=settings.keep_every_n_epochs,
        file_format=settings.checkpoint_format,
    )


def find_resume_point(
    plan: Plan, length: Length, directory: Path, config_text: str
) -> ResumePoint | None:
    """Where the run goes on, None for a new one; why a checkpoint is skipped is logged.

    Raises:
        CheckpointError: one is demanded and there is none, or it is of a run with other settings
            (each is named) and `force_resume` is not given.
    """
    wanted = plan.run.resume_training
    if wanted is False:
        return None
    found = _find(plan, directory)
    if found is None:
        return None
    text = (found / CONFIG).read_text(encoding="utf-8")
    # a run that began from other weights is another run, unless one of its checkpoints is named
    may_change = _MAY_CHANGE if wanted == "auto" else (*_MAY_CHANGE, "load_checkpoint")
    state = json.loads((found / STATE).read_text(encoding="utf-8"))
    before, now = _as_of_now(text, str(found)), parse_yaml(config_text, "config")
    for name, shown in _COUNTED.items():
        before[shown], now[shown] = state[name], getattr(length, name)
    changes = _changes(before, now, may_change)
    if changes and not plan.run.force_resume:
        raise CheckpointError(
            f"{found}: is of a run with other settings:\n{changes}\nResume with the settings of "
            "that run; or start a new one, from its weights or not, with --resume_training False "
            "or in another --output_dir; or give --force_resume"
        )
    if changes:
        logger.warning("force_resume: %s is of a run with other settings:\n%s", found, changes)
    own = found.parent == _store_of(plan, directory).root
    return ResumePoint(found, state, _is_finished(directory, state, length), own)


def _find(plan: Plan, directory: Path) -> Path | None:
    """The one given, else the newest of this run, else (True only) the newest in what is given."""
    store, given = _store_of(plan, directory), plan.run.load_checkpoint
    demanded = plan.run.resume_training is True
    found = Path(given).expanduser() if given and demanded else None
    if found is None or not (found / FILE_NAME).is_file():
        # the command that began a fine-tuning names the weights it began from: own ones first
        newest = store.latest_valid()
        found = newest.path if newest else found and newest_checkpoint(found)
    if found is None and demanded:
        raise CheckpointError(
            f"resume_training: no valid training checkpoint in '{given or store.root}'"
        )
    return found


def _as_of_now(text: str, where: str) -> Any:
    """A checkpoint's configuration as this version writes it, newer settings at their defaults."""
    values = parse_yaml(text, where)
    try:
        return parse_yaml(written(make_plan(values)), where)
    except ConfigError:  # a setting that has gone since; it is named with the others
        return values


def _changes(before: Any, now: Any, may_change: tuple[str, ...]) -> str:
    """The settings that differ, one a line: with them it would be another run."""
    old, new = _flat(before), _flat(now)
    touching = _touching(old, new)
    may_change = tuple(key for key in may_change if key not in touching)
    different = [
        f"  {key}: {_word(old.get(key))} there, {_word(new.get(key))} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(may_change)
    ]
    more = [f"  ... and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
    return "\n".join([*different[:_SHOWN], *more])


def _touching(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """What touches the updates of these two runs although it may change in others."""
    found = set()
    if not any(key.startswith("train_dataset.transforms") for key in new):
        found.add("processor")  # it makes the training images
    if (_MAPS in old) != (_MAPS in new):  # where they lie may change, not whether there are any
        found.add(_MAPS)
    return found


def _word(value: Any) -> str:
    return "not set" if value in (None, "") else str(value)


def _flat(values: Any, path: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in a configuration."""
    if isinstance(values, Mapping):
        items: Any = values.items()
    elif isinstance(values, list):
        items = enumerate(values)
    else:
        return {path: values}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _flat(value, f"{path}.{key}" if path else str(key))
    return found


def mark_finished(directory: Path, global_step: int) -> None:
    """Note that the network of this update, the last one, has been saved."""
    with files.replacing(directory / _FINISHED) as temporary:
        files.write_file(temporary, (json.dumps({"global_step": global_step}) + "\n").encode())


def _is_finished(directory: Path, state: Mapping[str, Any], length: Length) -> bool:
    try:
        marked = json.loads((directory / _FINISHED).read_text())["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    at_end = state["global_step"] == marked >= length.last_step
    return at_end and (directory / _NETWORK).is_file()


def set_aside(directory: Path) -> None:
    """Move what an earlier run left into `previous_<n>/`, out of a new run's way."""
    names = (
        "checkpoint", "checkpoint_network", "metrics.jsonl", "summary", _FINISHED,
        *reporting.PATHS,
    )  # fmt: skip
    old = [directory / name for name in names if (directory / name).exists()]
    if not any(_is_worth_keeping(path) for path in old):
        return
    number = 1
    while (directory / f"previous_{number}").exists():
        number += 1
    target = directory / f"previous_{number}"
    files.make_dirs(target)
    for path in old:
        files.rename(path, target / path.name)
    logger.warning("a new run in '%s': what was there is now in '%s'", directory, target)


def _is_worth_keeping(path: Path) -> bool:
    """Whether a run that was killed before its first checkpoint would not have left this."""
    if path.name == "checkpoint":
        return any(path.glob("rank_*/[!.]*"))
    return path.name == "checkpoint_network" and any(path.rglob("network.*"))
