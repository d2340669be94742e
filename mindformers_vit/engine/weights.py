"""What `load_checkpoint` may be, and how it gets into the network.

A weight file; a saved model's directory; a training checkpoint; an output directory (its finished
network, else its newest valid training checkpoint); a model name. Never silently nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint.manifest import FILE_NAME
from mindformers_vit.checkpoint.store import CONFIG, load_checkpoint, newest_valid
from mindformers_vit.checkpoint.weights import FORMATS, read_weights
from mindformers_vit.config.loader import load_yaml, parse_yaml
from mindformers_vit.engine.plan import Plan
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.mindformers_names import conversion_hint
from mindformers_vit.models.sources import find_source, looks_like_path, weight_file

logger = logging.getLogger(__name__)
_SAVED = ("", "rank_0", "checkpoint_network/rank_0")
_TRAINING = ("", "rank_0", "checkpoint/rank_0")
_COMPUTING = frozenset({"num_attention_heads", "decoder_num_attention_heads", "layer_norm_eps"})
_COMPUTING |= {"use_mean_pooling", "norm_pix_loss", "qkv_bias", "skip_lam"}
_PREPROCESSING = ("mean", "std", "interpolation")
_TRAIN_STATE = ("optimizer.", "ema.")


@dataclass(frozen=True)
class Weights:
    """Tensors by our names, where they are from, and the yaml that came with them."""

    tensors: dict[str, Any]
    where: str
    settings: Mapping[str, Any]  # of model.model_config; {} for a bare weight file
    processor: Mapping[str, Any] = field(default_factory=dict)  # the yaml's section

    @property
    def id2label(self) -> dict[int, str] | None:
        found = self.settings.get("id2label")
        return {int(index): str(label) for index, label in found.items()} if found else None


def find_weights(plan: Plan) -> Weights | None:
    """The weights a run starts from, or None for new ones (only when training)."""
    given = plan.run.load_checkpoint
    if not given and not plan.run.is_training:
        given = plan.network.checkpoint_name_or_path or ""
        if not given:
            raise CheckpointError(
                f"load_checkpoint: run_mode {plan.run.run_mode} needs weights; none are given"
            )
    return read(given) if given else None


def read(given: str) -> Weights:
    """Whatever `given` means, read and checked; CheckpointError says what was looked for."""
    path = Path(given).expanduser()
    if path.is_file():
        if path.parent.joinpath(FILE_NAME).is_file():  # the tensors of a training checkpoint
            return _read_training(path.parent)
        tensors = read_weights(path)
        hint = conversion_hint(path, tensors)
        if hint is not None:
            raise CheckpointError(f"load_checkpoint: {hint}")
        beside = path.with_suffix(".yaml")
        values = load_yaml(beside) if beside.is_file() else {}
        return Weights(_network_of(tensors), str(path), *_sections(values))
    if path.is_dir():
        return _read_directory(path)
    if looks_like_path(given):
        raise CheckpointError(f"load_checkpoint: '{given}': no such file or directory")
    source = find_source(given)
    file = weight_file(source)
    return Weights(read_weights(file), str(file), source.config.settings())


def _read_directory(path: Path) -> Weights:
    for directory in (path / below for below in _SAVED):
        if (directory / FILE_NAME).is_file():
            return _read_training(directory)
        if any(directory.glob("*.yaml")) and any(
            file for ending in FORMATS for file in directory.glob(f"*.{ending}")
        ):
            source = find_source(directory)
            if source.weights is not None:
                sections = source.config.settings(), source.processor
                return Weights(read_weights(source.weights), str(source.weights), *sections)
    newest = newest_checkpoint(path)
    if newest is None:
        raise CheckpointError(
            f"load_checkpoint: '{path}' holds neither a saved network (a .yaml beside a "
            f".{' or .'.join(FORMATS)}) nor a valid training checkpoint (a Hugging Face folder is "
            f"converted first: docs/weights.md)"
        )
    logger.info("newest valid training checkpoint: %s", newest)
    return _read_training(newest)


def newest_checkpoint(path: Path) -> Path | None:
    """The newest training checkpoint in or below a directory whose every byte is as saved."""
    found = filter(None, [newest_valid(path / below) for below in _TRAINING])
    newest = max(found, key=lambda checkpoint: checkpoint.manifest.order, default=None)
    return newest.path if newest else None


def _read_training(path: Path) -> Weights:
    """The network out of a training checkpoint; its moving averages where it has them."""
    tensors, _, text = load_checkpoint(path)
    values = parse_yaml(text, str(path / CONFIG))
    return Weights(_network_of(tensors), str(path), *_sections(values))


def _network_of(tensors: dict[str, Any]) -> dict[str, Any]:
    """The network's own tensors, without the optimiser's; averages where there are any."""
    network = {n: a for n, a in tensors.items() if not n.startswith(_TRAIN_STATE)}
    averages = {n.removeprefix("ema."): a for n, a in tensors.items() if n.startswith("ema.")}
    return network | averages


def _sections(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A yaml's settings of the network, and of its processor."""
    return (values.get("model") or {}).get("model_config") or {}, values.get("processor") or {}


def check_weights(plan: Plan) -> str | None:
    """Whether a run's weights can be loaded, without building the network; where they are from."""
    weights = find_weights(plan)
    if weights is None:
        return None
    from mindformers_vit.models.model_io import fit_weights

    model_class = plan.family.load_model_class()
    fit_weights(model_class, plan.network, weights.tensors, weights.where, _new_parts(plan))
    return weights.where


def load_network(plan: Plan, weights: Weights | None, network: Any = None) -> Any:
    """The plan's network, new from the seed or the one given, with these weights if any."""
    if network is None:
        network = plan.family.load_model_class()(plan.network, seed=plan.run.seed)
    network.config = plan.network  # one that was given learns its class names
    if weights is not None:
        from mindformers_vit.models.model_io import load_weights

        logger.info("weights from %s", weights.where)
        load_weights(
            network, weights.tensors, new_parts=_new_parts(plan), seed=plan.run.seed,
            where=weights.where,
        )  # fmt: skip
    return network


def check_settings(plan: Plan, weights: Weights) -> None:
    """Settings that change what the same tensors compute must be those they were saved with."""
    ours = plan.network.model_dump(mode="json")
    names = sorted(_COMPUTING & ours.keys() & weights.settings.keys())
    different = [
        f"model.model_config.{name}: {ours[name]} given, but {weights.where} was saved with "
        f"{weights.settings[name]}"
        for name in names
        if ours[name] != weights.settings[name]
    ]
    if different:
        raise ConfigError(different)


def warn_of_preprocessing(plan: Plan, weights: Weights) -> None:
    """Say which settings of the run's processor are not those that the weights were saved with."""
    ours = plan.processor.image_processor.to_dict()
    saved = weights.processor.get("image_processor") or {}
    for name in _PREPROCESSING:
        if name in saved and saved[name] != ours[name]:
            logger.warning(
                "processor.image_processor.%s: %s is used, but %s was saved with %s",
                name, ours[name], weights.where, saved[name],
            )  # fmt: skip


def _new_parts(plan: Plan) -> bool:
    """Training may start a head or a decoder anew, kNN uses neither; others may not."""
    is_knn = plan.run.run_mode == "eval" and plan.run.metric.type == "KNN"
    return plan.run.is_training or is_knn


def with_labels(plan: Plan, labels: Mapping[int, str] | Sequence[str] | None) -> Plan:
    """The plan with the class names in its network's configuration."""
    if labels is None or not plan.labelled:
        return plan
    named = dict(labels) if isinstance(labels, Mapping) else dict(enumerate(labels))
    if sorted(named) != list(range(plan.network.num_labels)):
        return plan
    network = plan.network.model_copy(update={"id2label": named})
    return replace(plan, network=network)
