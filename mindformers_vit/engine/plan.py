"""From one mapping to a checked plan of a run, without MindSpore and without touching the data.

Every problem of every section is found and reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindformers_vit.config.schema import RunConfig
from mindformers_vit.config.strict import validate
from mindformers_vit.data.mixup import Mixup
from mindformers_vit.data.transforms import Compose, build_transforms
from mindformers_vit.engine import parallel
from mindformers_vit.engine.contradictions import contradictions
from mindformers_vit.engine.mindformers_yaml import RENAMED_TYPES, warnings_of
from mindformers_vit.errors import ConfigError
from mindformers_vit.models.sources import make_config, make_processor
from mindformers_vit.registry import ModelFamily, callbacks, find_arch


@dataclass(frozen=True)
class Plan:
    """Everything about a run that can be known from its configuration."""

    run: RunConfig
    family: ModelFamily
    network: Any  # the family's config object, e.g. ViTMAEConfig
    processor: Any  # preprocessing of evaluation and prediction
    train_transforms: Compose | None
    eval_transforms: Compose | None
    mixup: Mixup | None
    callbacks: tuple[Any, ...]  # settings objects, one a callback
    warnings: tuple[str, ...]
    recipe: Path | None = None  # the yaml it was made from, before any flag
    world: parallel.World = parallel.ONE

    @property
    def labelled(self) -> bool:
        return self.family.task == "image_classification"


class _Problems(list[str]):
    """Collects ConfigErrors: `with problems:` goes on after one."""

    def __enter__(self) -> _Problems:
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        if isinstance(error, ConfigError):
            self.extend(error.problems)
            return True
        return False


def make_plan(values: Mapping[str, Any], recipe: Path | None = None) -> Plan:
    """The plan of a run; ConfigError carries every problem, each with its dotted path.

    `recipe` is the yaml that the values were read from, for the report to compare with.
    """
    problems = _Problems()
    run: RunConfig | None = None
    parts: dict[str, Any] = dict.fromkeys(("family", "network", "processor", "mixup"))
    parts |= {"train_transforms": None, "eval_transforms": None}
    section = values.get("model")
    with problems:
        run = validate(RunConfig, dict(values))
    with problems:
        arch = _inside(section, "arch", "type")
        parts["family"] = find_arch(arch) if isinstance(arch, str) else None
    with problems:
        parts["network"] = _network(section, parts["family"], values)
    if parts["network"] is not None:
        with problems:
            parts["processor"] = make_processor(
                parts["family"], parts["network"], values.get("processor")
            )
    for name in ("train", "eval"):
        with problems:
            parts[f"{name}_transforms"] = _transforms(values, f"{name}_dataset")
    with problems:
        parts["mixup"] = _mixup(values, parts["network"])
    with problems:
        parts["callbacks"] = _callbacks(values)
    if run is not None:
        with problems:
            parts["world"] = parallel.world_of(run)
    if run is not None and parts["network"] is not None:
        problems += contradictions(run, parts)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    assert run is not None
    return Plan(run=run, warnings=tuple(warnings_of(run)), recipe=recipe, **parts)


def _inside(section: Any, *path: str) -> Any:
    """The value at `path`, None if the mapping does not reach that far."""
    for key in path:
        section = section.get(key) if isinstance(section, Mapping) else None
    return section


def _network(section: Any, family: ModelFamily | None, values: Mapping[str, Any]) -> Any:
    settings = _inside(section, "model_config")
    if family is None or not isinstance(settings, Mapping):
        return None
    ratio = _inside(values, "predict", "mask_ratio")
    if values.get("run_mode") == "predict" and ratio is not None:
        settings = {**settings, "mask_ratio": ratio}
    asked = _inside(values, "context", "compute_dtype")
    if asked in (None, "auto") and values.get("run_mode") == "export":
        asked = "float32"  # what the file is compared with, on an Ascend, too
    if asked not in (None, "auto"):
        settings = {**settings, "compute_dtype": asked}
    return make_config(family, settings)


def _transforms(values: Mapping[str, Any], name: str) -> Compose | None:
    listed = _inside(values, name, "transforms")
    if not isinstance(listed, list) or not listed:
        return None
    return build_transforms(listed, f"{name}.transforms")


def _mixup(values: Mapping[str, Any], network: Any) -> Mixup | None:
    settings = _inside(values, "train_dataset", "mixup_op")
    if not isinstance(settings, Mapping) or network is None:
        return None
    rest = {key: value for key, value in settings.items() if key != "type"}
    rest.setdefault("num_classes", getattr(network, "num_labels", None))
    return validate(Mixup, rest, "train_dataset.mixup_op")


def _callbacks(values: Mapping[str, Any]) -> tuple[Any, ...]:
    listed = values.get("callbacks") or []
    found, problems = [], _Problems()
    for place, item in enumerate(listed if isinstance(listed, list) else []):
        path = f"callbacks.{place}"
        with problems:
            name = _inside(item, "type")
            if not isinstance(name, str):
                raise ConfigError(f"{path}: a mapping with a 'type' is expected, given {item!r}")
            rest = {key: value for key, value in item.items() if key != "type"}
            try:
                settings_class = callbacks.get(RENAMED_TYPES.get(name, name))
            except ConfigError as error:
                raise ConfigError(f"{path}.type: {error}") from None
            found.append(validate(settings_class, rest, path))
    if problems:
        raise ConfigError(list(problems))
    return tuple(found)
