"""Networks from files and networks to files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.merge import MergeReport, merge
from mindformers_vit.checkpoint.weights import FORMATS, read_weights
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.base import PreTrainedModel
from mindformers_vit.models.layers.parameters import ParamSpec, initial_value, shapes_of
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.model_files import write_model, yaml_sections
from mindformers_vit.models.sources import ModelSource, find_source, weight_file
from mindformers_vit.registry import ModelFamily

logger = logging.getLogger(__name__)


def load_model(
    name_or_path: str | Path,
    *,
    family: ModelFamily | None = None,
    download_checkpoint: bool = True,
    new_parts: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A network with the weights that belong to it; never a random one by accident.

    Args:
        name_or_path: a model name, a yaml, a model directory or a weight file beside its yaml.
        family: the only family allowed, if given.
        download_checkpoint: whether the weights of a name that are not here are fetched from
            their publisher and converted; False gives the network's initial weights instead.
        new_parts: see `load_weights`.
        overrides: settings that replace those found.

    Raises:
        ConfigError: unknown name or wrong settings.
        CheckpointError: the weights are missing, damaged, or do not fit.
    """
    source = find_source(name_or_path, overrides=overrides)
    if family is not None and source.family.name != family.name:
        raise ConfigError(
            f"'{name_or_path}' is a {source.family.arch}, no {family.arch}; "
            f"use {source.family.arch} or AutoModel"
        )
    weights = weight_file(source) if download_checkpoint else None
    network = build(source)
    if weights is not None:
        load_weights(network, weights, new_parts=new_parts)
    return network


def build(source: ModelSource) -> PreTrainedModel:
    """The network of a source, with initial weights."""
    network: PreTrainedModel = source.family.load_model_class()(source.config)
    return network


def load_weights(
    network: PreTrainedModel,
    weights: str | Path | Mapping[str, Array],
    *,
    new_parts: bool = False,
    seed: int = 0,
    where: str = "",
) -> MergeReport:
    """Put weights into a network, by its family's rules.

    Args:
        network: changed only if everything fits.
        weights: a `.safetensors` or `.ckpt` file, or name -> array.
        new_parts: allow what a file may lack to start anew: a classifier's head (and `fc_norm`)
            when it comes from pretraining or from other classes, a masked autoencoder's decoder.
        seed: of the values of new parts.
        where: the origin of `weights`, for messages.

    Returns:
        What was loaded, resized, new and left over.

    Raises:
        CheckpointError: with everything that does not fit.
    """
    loaded = weights if isinstance(weights, Mapping) else read_weights(weights)
    if not where and not isinstance(weights, Mapping):
        where = str(weights)
    specs = network.parameter_specs(network.config)
    arrays, report, rules = fit_weights(type(network), network.config, loaded, where, new_parts)
    for name in report.new:
        init = rules.new_values.get(name, specs[name].init)
        arrays[name] = initial_value(name, ParamSpec(specs[name].shape, init), seed)
    network.load_arrays(arrays)
    logger.info("%s", report)
    return report


def fit_weights(
    model_class: type[PreTrainedModel],
    config: Any,
    loaded: Mapping[str, Array],
    where: str,
    new_parts: bool,
) -> tuple[dict[str, Array], MergeReport, LoadingRules]:
    """The arrays that a network of this class and config would take; it need not be built.

    Raises:
        CheckpointError: with everything that does not fit, after `where`.
    """
    try:
        rules = model_class.loading_rules(config, loaded, new_parts=new_parts)
        copied = {name: loaded[source] for name, source in rules.copies.items()}
        arrays, report = merge(
            {**loaded, **copied},
            shapes_of(model_class.parameter_specs(config)),
            allow_new=rules.allow_new,
            allow_unused=rules.allow_unused,
            resize=rules.resize,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}" if where else str(error)) from None
    return arrays, report, rules


def save_model(
    network: PreTrainedModel,
    directory: str | Path,
    name: str,
    *,
    processor: Any = None,
    save_format: str = "ckpt",
) -> Path:
    """Write `<name>.yaml` and `<name>.<save_format>`; `AutoModel.from_pretrained` reads them.

    Args:
        processor: preprocessing that belongs to the weights; the family's own if None.
        save_format: "ckpt" or "safetensors".

    Returns:
        The directory.

    Raises:
        CheckpointError: the format is unknown, or writing failed.
    """
    if save_format not in FORMATS:
        raise CheckpointError(f"save_format: '{save_format}' given; allowed: {', '.join(FORMATS)}")
    directory = Path(directory)
    sections = yaml_sections(network.family, network.config, processor)
    write_model(directory / f"{name}.{save_format}", network.state_arrays(), sections)
    for other in FORMATS:
        if other != save_format:
            files.remove(directory / f"{name}.{other}")
    return directory
