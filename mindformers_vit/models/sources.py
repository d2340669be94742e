"""From a model name, a yaml, a directory or a weight file to settings and the place of the weights.
No MindSpore here.

A model directory holds `<name>.yaml` (sections `model` and `processor`) beside
`<name>.safetensors` or `<name>.ckpt`. Weights of a model *name* are looked for in
`$CHECKPOINT_DOWNLOAD_FOLDER/<family>/` (default `./checkpoint_download/<family>/`), and brought
there from their publisher when they are needed (`published.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint.weights import FORMATS
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.config.strict import validate
from mindformers_vit.data.imagenet import imagenet_labels
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.published import PUBLISHED, obtain
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.registry import ModelFamily, find_arch, find_model

DOWNLOAD_VARIABLE = "CHECKPOINT_DOWNLOAD_FOLDER"
DOWNLOAD_FOLDER = "./checkpoint_download"


@dataclass(frozen=True)
class ModelSource:
    """What is known about a model before its weights are read."""

    name: str
    family: ModelFamily
    config: VisionConfig
    processor: Mapping[str, Any] = field(default_factory=dict)  # the yaml's section
    weights: Path | None = None
    looked_for: tuple[Path, ...] = ()  # where weights were not found
    weights_name: str = ""  # the model name whose weights are meant, if one is


def find_source(
    name_or_path: str | Path, *, overrides: Mapping[str, Any] | None = None
) -> ModelSource:
    """The model behind a name or alias, a yaml, a model directory or a weight file.

    Args:
        name_or_path: as in `from_pretrained`.
        overrides: settings that replace those found.

    Raises:
        ConfigError: an unknown name, or wrong settings.
        CheckpointError: the path is missing, or holds no model.
    """
    given, overrides = str(name_or_path), dict(overrides or {})
    path = Path(given).expanduser()
    if path.is_dir():
        return _from_yaml(_only_yaml(_saved_in(path)), overrides)
    if path.is_file():
        return _from_yaml(_yaml_of(path), overrides)
    if looks_like_path(given):
        raise CheckpointError(f"'{given}': no such file or directory")
    return _from_name(given, overrides)


def looks_like_path(given: str) -> bool:
    """Whether a text that names no file is meant as a path, rather than as a model's name."""
    bare = given.removeprefix("mindspore/")
    return os.sep in bare or bare.startswith(("~", ".")) or _ending(bare) in (*FORMATS, "yaml")


def make_config(
    family: ModelFamily, settings: Mapping[str, Any], path: str = "model.model_config"
) -> VisionConfig:
    """The family's config object from a yaml's `model_config`, whose `type` is optional.

    Raises:
        ConfigError: with every problem.
    """
    wanted = family.config_class.__name__
    given = settings.get("type", wanted)
    if given != wanted:
        raise ConfigError(f"{path}.type: '{given}' given, {family.arch} takes '{wanted}'")
    rest = {key: value for key, value in settings.items() if key != "type"}
    config: VisionConfig = validate(family.config_class, rest, path)
    return config


def make_processor(family: ModelFamily, config: VisionConfig, section: Any) -> Any:
    """The family's processor from a yaml's `processor` section, or its default for the network.

    Raises:
        ConfigError: with every problem.
    """
    section = section if isinstance(section, Mapping) else {}
    processor_class = family.load_processor_class()
    wanted = processor_class.__name__
    given = section.get("type", wanted)
    if given != wanted:
        raise ConfigError(f"processor.type: '{given}' given, {family.arch} takes '{wanted}'")
    return processor_class.for_network(config, section.get("image_processor"))


def weight_file(source: ModelSource) -> Path:
    """The weight file of a source; for a model name without one, the publisher's, fetched now.

    Raises:
        CheckpointError: there is none; with what was looked for and what to do.
    """
    if source.weights is not None:
        return source.weights
    if source.weights_name:
        return obtain(source.weights_name, _cache_folder(find_model(source.weights_name)[0]))
    places = ", ".join(str(place) for place in source.looked_for) or "nothing"
    raise CheckpointError(f"no weights for '{source.name}'; looked for: {places}")


def _cache_folder(family: ModelFamily) -> Path:
    return Path(os.environ.get(DOWNLOAD_VARIABLE) or DOWNLOAD_FOLDER) / family.name


def _cached(name: str, family: ModelFamily) -> Path | None:
    """The local weight file of a model name."""
    places = (_cache_folder(family) / f"{name}.{ending}" for ending in FORMATS)
    return next((place for place in places if place.is_file()), None)


def _from_name(given: str, overrides: dict[str, Any]) -> ModelSource:
    family, name = find_model(given)
    settings = {**family.variants[name], **overrides}
    config = make_config(family, settings, name)
    if name in PUBLISHED and getattr(config, "num_labels", 0) == len(imagenet_labels()):
        labelled = {"id2label": imagenet_labels(), **settings}
        config = make_config(family, labelled, name)
    return ModelSource(name, family, config, weights=_cached(name, family), weights_name=name)


def _from_yaml(path: Path, overrides: dict[str, Any]) -> ModelSource:
    values = load_yaml(path)
    model = values.get("model")
    arch = model.get("arch") if isinstance(model, dict) else None
    arch = arch.get("type") if isinstance(arch, dict) else arch
    if not isinstance(model, dict) or not isinstance(arch, str):
        raise ConfigError(f"{path}: model.arch.type: missing; it names the network")
    family = find_arch(arch)
    settings = {**(model.get("model_config") or {}), **overrides}
    if "num_labels" in overrides and "id2label" not in overrides:
        settings.pop("id2label", None)
    config = make_config(family, settings, f"{path}: model.model_config")
    weights, places = _weights_beside(path)
    name = ""
    if weights is None and config.checkpoint_name_or_path:
        weights, name = _weights_named(config.checkpoint_name_or_path)
        places += () if weights or name else (Path(config.checkpoint_name_or_path),)
    processor = values.get("processor") or {}
    return ModelSource(path.stem, family, config, processor, weights, places, name)


def _weights_named(text: str) -> tuple[Path | None, str]:
    """The weights that `checkpoint_name_or_path` means, and the model name if it is one."""
    if looks_like_path(text):
        path = Path(text).expanduser()
        return (path if path.is_file() else None), ""
    family, name = find_model(text)
    return _cached(name, family), name


def _weights_beside(path: Path) -> tuple[Path | None, tuple[Path, ...]]:
    places = tuple(path.with_name(f"{path.stem}.{ending}") for ending in FORMATS)
    found = [place for place in places if place.is_file()]
    if len(found) > 1:
        raise CheckpointError(
            f"{path.parent}: both {found[0].name} and {found[1].name} are there; "
            f"remove the one that is not meant"
        )
    return (found[0] if found else None), places


def _saved_in(directory: Path) -> Path:
    """The finished network of a run's output directory, else the directory itself."""
    finished = directory / "checkpoint_network" / "rank_0"
    return finished if finished.is_dir() else directory


def _only_yaml(directory: Path) -> Path:
    found = sorted(directory.glob("*.yaml"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise CheckpointError(
        f"'{directory}' is no model directory: exactly one .yaml beside the weights is expected, "
        f"found: {names}"
    )


def _yaml_of(path: Path) -> Path:
    if path.suffix in (".yaml", ".yml"):
        return path
    if _ending(path.name) not in FORMATS:
        raise CheckpointError(f"'{path}': expected a .yaml, .{' or .'.join(FORMATS)} file")
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        return beside
    raise CheckpointError(
        f"'{path}' has no settings: {beside.name} is expected beside it. To load a bare weight "
        f"file: AutoModel.from_config(NAME), then models.model_io.load_weights(network, PATH)"
    )


def _ending(name: str) -> str:
    return Path(name).suffix.removeprefix(".")
