"""What is known about yamls written for MindFormers: accepted, and said in one warning."""

from __future__ import annotations

from mindformers_vit.config.schema import RunConfig, dead_keys

RENAMED_TYPES = {"CheckpointMointor": "CheckpointMonitor"}
_MINDFORMERS_MEAN, _IMAGENET_MEAN = (123.675, 118.575, 103.53), (123.675, 116.28, 103.53)


def is_mindformers(run: RunConfig) -> bool:
    """A yaml written for MindFormers itself: it carries sections that mean nothing here."""
    return {"moe_config", "parallel_config"} <= run.model_fields_set


def warnings_of(run: RunConfig) -> list[str]:
    """Numbers that are known to be wrong, then keys that do nothing: one warning, a line each."""
    reasons: dict[str, list[str]] = {}
    for path, why in dead_keys(run).items():
        reasons.setdefault(why, []).append(path)
    known = _known_typos(run)
    epochs, warmup = run.runner_config.epochs, run.lr_schedule.warmup_epochs
    if warmup is not None and warmup >= epochs and run.is_training:
        known.append(
            f"lr_schedule.warmup_epochs {warmup:g} against runner_config.epochs {epochs}: the "
            f"learning rate only rises, to {100 * epochs / warmup:.0f} % of its peak"
        )
    known += [f"ignored ({why}): {', '.join(paths)}" for why, paths in reasons.items()]
    return ["\n  ".join(["in this yaml:", *known])] if known else []


def _known_typos(run: RunConfig) -> list[str]:
    found = []
    if any(item.get("type") == "CheckpointMointor" for item in run.callbacks):
        found.append("CheckpointMointor read as CheckpointMonitor")
    listed = run.train_dataset.transforms if run.train_dataset else []
    for item in listed:
        if item.get("type") == "Normalize" and tuple(item.get("mean", ())) == _MINDFORMERS_MEAN:
            found.append(
                f"Normalize.mean {list(_MINDFORMERS_MEAN)} used as given, though the green channel "
                f"is a slip of MindFormers' (ImageNet: {list(_IMAGENET_MEAN)})"
            )
    return found
