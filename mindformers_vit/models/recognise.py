"""Whether something is about a model of this project, where other models are about, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mindformers_vit.config.schema import TASKS
from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.registry import families


def is_task(task: Any) -> bool:
    """Whether this is a task of ours, with hyphens or underscores."""
    return isinstance(task, str) and task.replace("-", "_") in TASKS


def is_ours(thing: Any) -> bool:
    """Whether a name, path, yaml's values, config object or network is of a model of ours."""
    if isinstance(thing, Mapping):
        return _declares_ours(thing)
    if not isinstance(thing, (str, Path)):
        return isinstance(thing, (VisionConfig, PreTrainedModel))
    path = Path(thing)
    if path.is_dir():
        found = [*path.glob("*.yaml"), *path.glob("checkpoint_network/rank_0/*.yaml")]
        return any(_declares_ours(_read(file)) for file in found)
    if path.is_file():
        beside = path if path.suffix == ".yml" else path.with_suffix(".yaml")
        return _declares_ours(_read(beside))
    bare = str(thing).removeprefix("mindspore/")
    return any(bare in (*family.variants, *family.aliases) for family in families())


def _declares_ours(values: Mapping[str, Any]) -> bool:
    """Whether the values of a yaml name one of our tasks or networks."""
    model = _section(values, "model") or values
    arch = _section(model, "arch").get("type")
    task = _section(values, "trainer").get("type")
    return is_task(task) or arch in [family.arch for family in families()]


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = values.get(key)
    return section if isinstance(section, Mapping) else {}


def _read(path: Path) -> Mapping[str, Any]:
    """A yaml that may be anybody's: what cannot be read is not ours."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, Mapping) else {}
