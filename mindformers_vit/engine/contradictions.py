"""Settings that are each fine and do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindformers_vit.config.schema import RunConfig
from mindformers_vit.engine.mindformers_yaml import is_mindformers
from mindformers_vit.registry import ModelFamily

# of MindFormers' sections parallel and parallel_config: with them it would be another run
_SHARED_OUT = ("model_parallel", "pipeline_stage", "expert_parallel", "context_parallel")
_SHARDED = (("parallel", "enable_parallel_optimizer"), ("parallel_config", "optimizer_shard"))


def contradictions(run: RunConfig, parts: Mapping[str, Any]) -> list[str]:
    """Every problem, with its dotted path; `parts` are the fields of a Plan."""
    network, family = parts["network"], parts["family"]
    found: list[str] = []
    task = run.trainer.type
    if task != family.task:
        found.append(f"trainer.type: '{task}' given, {family.arch} is for '{family.task}'")
    found += _class_counts(run, network)
    found += _image_sizes(run, network)
    found += _pixel_shapes(run, parts)
    accumulation = run.runner_config.gradient_accumulation_steps
    if parts["mixup"] is not None and run.runner_config.batch_size % 2:
        found.append(
            f"runner_config.batch_size: mixup pairs the images of a batch, so it must be even, "
            f"given {run.runner_config.batch_size} (gradient_accumulation_steps {accumulation})"
        )
    if parts["mixup"] is not None and run.train_dataset and run.train_dataset.label_smoothing:
        found.append(
            "train_dataset.label_smoothing: mixup_op has a label_smoothing of its own; give one"
        )
    found += _warmup(run)
    found += [*_training_only(run), *_label_maps(run, network), *_linear_probe(run, network)]
    found += [*_knn(run), *_sharding(run)]
    if run.run_mode == "export":
        found += _export(run, family, network)
    return found


def _export(run: RunConfig, family: ModelFamily, network: Any) -> list[str]:
    if family.task != "image_classification":
        return [f"run_mode: export is for classifiers, {family.arch} is for '{family.task}'"]
    wanted, patches = run.export.pad_tokens_to, getattr(network, "num_patches", None)
    if wanted is None:
        return []
    if patches is None:
        return [f"export.pad_tokens_to: {wanted} given, but {family.arch} has no tokens"]
    if wanted < patches + 1:
        return [f"export.pad_tokens_to: {wanted} given, but the network has {patches + 1} tokens"]
    return []


def _class_counts(run: RunConfig, network: Any) -> list[str]:
    labels = getattr(network, "num_labels", None)
    wanted = run.runner_config.num_classes
    if labels is None or wanted is None or labels == wanted:
        return []
    return [
        f"runner_config.num_classes: {wanted} given, but model.model_config.num_labels is {labels}"
    ]


def _image_sizes(run: RunConfig, network: Any) -> list[str]:
    size = network.image_size
    found = []
    policy = run.train_dataset.mask_policy if run.train_dataset else None
    pairs: list[tuple[str, Any, Any]] = [
        ("runner_config.image_size", run.runner_config.image_size, size)
    ]
    if policy:
        path = "train_dataset.mask_policy"
        pairs += [
            (f"{path}.input_size", policy.input_size, size),
            (f"{path}.patch_size", policy.patch_size, network.patch_size),
            (f"{path}.mask_ratio", policy.mask_ratio, getattr(network, "mask_ratio", None)),
        ]
    for path, given, truth in pairs:
        if given is not None and _as_pair(given) != _as_pair(truth):
            found.append(f"{path}: {given} given, but the network (model.model_config) has {truth}")
    return found


def _pixel_shapes(run: RunConfig, parts: Mapping[str, Any]) -> list[str]:
    """What the transforms make must be what the network takes."""
    network, found = parts["network"], []
    wanted = (network.num_channels, *network.image_hw)
    evaluates = run.run_mode == "eval" or (run.is_training and run.do_eval)
    used = {"train": run.is_training, "eval": evaluates}
    for name in (name for name, is_used in used.items() if is_used):
        steps = parts[f"{name}_transforms"] or (
            parts["processor"] and parts["processor"].transforms
        )
        made = steps.output_shape() if steps else wanted
        if tuple(made) != wanted:
            found.append(
                f"{name}_dataset.transforms: they make images of {_shape(made)}, but the network "
                f"(model.model_config) takes {_shape(wanted)}"
            )
    return found


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height} x {width} pixels with {channels} channel{'s' if channels > 1 else ''}"


def _as_pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _warmup(run: RunConfig) -> list[str]:
    epochs, warmup = run.runner_config.epochs, run.lr_schedule.warmup_epochs
    cooldown = run.lr_schedule.cooldown_epochs
    if cooldown and epochs - cooldown <= (warmup or 0):
        return [
            f"lr_schedule.cooldown_epochs: {cooldown} given with warmup_epochs {warmup or 0:g}, "
            f"but the run has {epochs} epochs (runner_config.epochs): none is left between"
        ]
    if warmup is None or warmup < epochs or not run.is_training:
        return []
    if is_mindformers(run):
        return []  # its published recipe warms up longer than it runs: a warning
    return [
        f"lr_schedule.warmup_epochs: {warmup:g} given, but the run has {epochs} epochs "
        f"(runner_config.epochs): the learning rate would never reach its peak"
    ]


def _sharding(run: RunConfig) -> list[str]:
    """What MindFormers would spread over the cards, and what would silently not be here."""
    found = []
    for section, key in _SHARDED:
        if _setting(run, section, key) not in (None, False):
            found.append(
                f"{section}.{key}: {_setting(run, section, key)} given, but MindSpore shards only "
                "optimisers of its own; here each card keeps all moments, see docs/scaling.md. "
                "Set it to False"
            )
    for key in _SHARED_OUT:
        value = _setting(run, "parallel_config", key)
        if value not in (None, 1):
            found.append(
                f"parallel_config.{key}: {value} given, but each card has the whole network here, "
                "so the global batch would be another; set it to 1"
            )
    return found


def _setting(run: RunConfig, section: str, key: str) -> Any:
    values = getattr(run, section)
    return values.get(key) if isinstance(values, Mapping) else None


def _training_only(run: RunConfig) -> list[str]:
    """What evaluation would silently not do."""
    dataset, found = run.eval_dataset, []
    if dataset is not None and dataset.repeated_augmentation > 1:
        found.append(
            f"eval_dataset.repeated_augmentation: {dataset.repeated_augmentation} given, but "
            "evaluation sees every image once; it belongs to train_dataset"
        )
    if dataset is not None and dataset.data_loader.label_map_dir is not None:
        found.append(
            "eval_dataset.data_loader.label_map_dir: only training learns from label maps; it "
            "belongs to train_dataset"
        )
    return found


def _label_maps(run: RunConfig, network: Any) -> list[str]:
    path = "train_dataset.data_loader.label_map_dir"
    dataset = run.train_dataset
    if dataset is None or dataset.data_loader.label_map_dir is None:
        return []
    found = []
    if not hasattr(network, "dense_weight"):
        found.append(f"{path}: a {type(network).__name__} has no loss of its tokens; LV-ViT has")
    if dataset.mixup_op is not None:
        found.append(f"{path}: label maps go with MixToken, not with train_dataset.mixup_op")
    return found


def _linear_probe(run: RunConfig, network: Any) -> list[str]:
    if not getattr(network, "linear_probe", False) or run.run_mode != "train":
        return []
    return [
        "model.model_config.linear_probe: it measures a pretrained encoder, run_mode train has "
        "none; give --run_mode finetune --load_checkpoint WEIGHTS"
    ]


def _knn(run: RunConfig) -> list[str]:
    if run.metric.type != "KNN" or run.trainer.type == "masked_image_modeling":
        return []
    return [
        f"metric.type: KNN measures the encoder of masked_image_modeling; '{run.trainer.type}' has "
        "Accuracy"
    ]
