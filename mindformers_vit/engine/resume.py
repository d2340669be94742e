"""Going on with a run, or starting a new one where another has been."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint.manifest import FILE_NAME
from mindformers_vit.checkpoint.store import CheckpointStore, load_checkpoint
from mindformers_vit.config.loader import parse_yaml
from mindformers_vit.engine import reporting
from mindformers_vit.engine.plan import Plan
from mindformers_vit.engine.weights import newest_checkpoint
from mindformers_vit.errors import CheckpointError

logger = logging.getLogger(__name__)
_MAY_CHANGE = (  # when resuming: these do not touch an update
    "run_mode", "output_dir", "load_checkpoint", "resume_training", "do_eval", "callbacks",
    "eval_dataset", "predict", "processor", "metric", "context.device", "context.max_device_memory",
    "runner_config.max_steps", "train_dataset.data_loader.dataset_dir",
    "train_dataset.data_loader.num_parallel_workers", "train_dataset.num_parallel_workers",
    "model.model_config.checkpoint_name_or_path",
)  # fmt: skip


def resume_point(plan: Plan, store: CheckpointStore, config_text: str) -> tuple[Any, Any, str]:
    """Tensors, state and place of the checkpoint to go on from.

    That is the one given, else the newest of this output directory, else the newest in the
    directory given.

    Raises:
        CheckpointError: there is none, or it is of a run with other settings (each is named).
    """
    given = plan.run.load_checkpoint
    found = Path(given).expanduser() if given else None
    if found is None or not (found / FILE_NAME).is_file():
        # the command that began a fine-tuning names the weights it began from: own ones first
        newest = store.latest_valid()
        found = newest.path if newest else found and newest_checkpoint(found)
    if found is None:
        raise CheckpointError(
            f"resume_training: no valid training checkpoint in '{given or store.root}'"
        )
    tensors, state, text = load_checkpoint(found)
    _refuse_changes(parse_yaml(text, str(found)), parse_yaml(config_text, "config"), found)
    return tensors, state, str(found)


def _refuse_changes(before: Any, now: Any, where: Path) -> None:
    """Going on with other settings would be another run, under the first one's name."""
    old, new = _flat(before), _flat(now)
    different = [
        f"  {key}: {old.get(key, 'not set')} there, {new.get(key, 'not set')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(_MAY_CHANGE)
    ]
    if different:
        raise CheckpointError(
            f"{where}: is of a run with other settings:\n" + "\n".join(different) + "\nResume "
            "with the settings of that run, or start a new one from its weights (without "
            "--resume_training)"
        )


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


def set_aside(directory: Path) -> None:
    """Move what an earlier run left into `previous_<n>/`, out of a new run's way."""
    names = ("checkpoint", "checkpoint_network", "metrics.jsonl", "summary", *reporting.PATHS)
    old = [directory / name for name in names if (directory / name).exists()]
    if not old:
        return
    number = 1
    while (directory / f"previous_{number}").exists():
        number += 1
    target = directory / f"previous_{number}"
    target.mkdir()
    for path in old:
        path.rename(target / path.name)
    logger.warning("a new run in '%s': what was there is now in '%s'", directory, target)
