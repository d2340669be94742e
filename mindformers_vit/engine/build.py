"""From a plan to data: sources, lengths, loaders. Needs no MindSpore; `check` is the dry run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit.compat import missing_device
from mindformers_vit.config.schema import DatasetConfig
from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.label_maps import LabelMaps
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import ImageSource, open_source
from mindformers_vit.engine.loop import Length
from mindformers_vit.engine.plan import Plan
from mindformers_vit.errors import ConfigError, MindFormersViTError
from mindformers_vit.optim.schedules import scaled_lr
from mindformers_vit.tools.image_tools import list_images


@dataclass(frozen=True)
class Data:
    """What a run reads."""

    train: ImageSource | None
    evaluation: ImageSource | None
    length: Length | None
    neighbors: ImageSource | None = None  # training images with labels, for metric KNN


def open_data(plan: Plan, *, has_inputs: bool = False) -> Data:
    """Find the images and do the arithmetic; ConfigError carries every problem found."""
    run, problems = plan.run, list[str]()
    train = evaluation = neighbors = None
    if run.is_training:
        train = _open(plan, run.train_dataset, "train", problems, labelled=plan.labelled)
    if run.run_mode == "eval" or (run.do_eval and run.is_training):
        is_knn = run.metric.type == "KNN"
        labelled = plan.labelled or is_knn
        evaluation = _open(plan, run.eval_dataset, "eval", problems, labelled=labelled)
        if is_knn:
            neighbors = _neighbors(plan, problems)
            problems += _same_classes(neighbors, evaluation)
    if train is not None:
        problems += _missing_maps(label_maps(plan), train)
    length = _length(plan, train, problems) if train is not None else None
    if run.run_mode == "predict" and not (has_inputs or run.predict.data):
        problems.append("predict.data: nothing to predict; give --predict_data IMAGE")
    if run.run_mode == "predict" and not has_inputs:
        problems += _missing_inputs(run.predict.data)
    problems += missing_device(run.context.device_target)
    if run.run_mode == "finetune" and not run.load_checkpoint:
        problems.append("load_checkpoint: run_mode finetune starts from weights; none are given")
    if plan.labelled:
        problems += _same_classes(train, evaluation)
    if problems:
        raise ConfigError(problems)
    return Data(train, evaluation, length, neighbors)


def _missing_inputs(data: list[str]) -> list[str]:
    try:
        list_images(data)
    except MindFormersViTError as error:
        return [f"predict.data: {line}" for line in str(error).splitlines()]
    return []


def _open(
    plan: Plan,
    dataset: DatasetConfig | None,
    name: str,
    problems: list[str],
    *,
    labelled: bool,
    num_samples: int | None = None,
) -> ImageSource | None:
    path = f"{name}_dataset.data_loader"
    if dataset is None or not dataset.data_loader.dataset_dir:
        problems.append(f"{path}.dataset_dir: missing; give --{name}_dataset_dir DIRECTORY")
        return None
    settings = dataset.data_loader
    try:
        source = open_source(
            settings.dataset_dir,
            label_file=settings.label_file,
            labelled=labelled,
            num_samples=num_samples or settings.num_samples,
        )
    except MindFormersViTError as error:
        problems += [f"{path}.dataset_dir: {line}" for line in str(error).splitlines()]
        return None
    if plan.labelled:
        problems += _label_range(plan, source, path)
    return source


def label_maps(plan: Plan) -> LabelMaps | None:
    """The token labels of the training images, where the configuration has them."""
    dataset = plan.run.train_dataset
    if dataset is None:
        return None
    settings = dataset.data_loader
    if settings.label_map_dir is None:
        return None
    return LabelMaps(
        str(Path(settings.label_map_dir).expanduser()),
        str(Path(settings.dataset_dir).expanduser()),
        grid=plan.network.grid,
        num_classes=plan.network.num_labels,
        smoothing=dataset.label_smoothing,
        order=settings.label_map_order,
    )


def _missing_maps(maps: LabelMaps | None, source: ImageSource) -> list[str]:
    """The training images without a label map, by the first of them."""
    missing = maps.missing(source.paths) if maps is not None else []
    if not missing:
        return []
    return [
        f"train_dataset.data_loader.label_map_dir: no label map for {len(missing)} of "
        f"{len(source)} training images; the first that is missing: {missing[0]}"
    ]


def _label_range(plan: Plan, source: ImageSource, path: str) -> list[str]:
    """The labels must be exactly those of the head."""
    head = plan.network.num_labels
    if source.classes is not None and len(source.classes) != head:
        return [
            f"{path}.dataset_dir: {len(source.classes)} class folders, but the head has "
            f"model.model_config.num_labels {head}"
        ]
    if source.labels is not None and max(source.labels) >= head:
        return [
            f"{path}.label_file: class {max(source.labels)} found, but the head has "
            f"model.model_config.num_labels {head}"
        ]
    return []


def _neighbors(plan: Plan, problems: list[str]) -> ImageSource | None:
    """The training images with their labels, enough for a vote."""
    metric = plan.run.metric
    source = _open(
        plan,
        plan.run.train_dataset,
        "train",
        problems,
        labelled=True,
        num_samples=metric.train_samples,
    )
    if source is not None and len(source) < metric.num_neighbors:
        problems.append(
            f"metric.num_neighbors: {metric.num_neighbors} given, but there are {len(source)} "
            "training images"
        )
    return source


def _same_classes(train: ImageSource | None, evaluation: ImageSource | None) -> list[str]:
    if train is None or evaluation is None or not train.classes or not evaluation.classes:
        return []
    if train.classes == evaluation.classes:
        return []
    odd = sorted(set(train.classes) ^ set(evaluation.classes))
    return [f"eval_dataset: its class folders are not those of train_dataset: {', '.join(odd[:8])}"]


def _length(plan: Plan, source: ImageSource, problems: list[str]) -> Length | None:
    runner = plan.run.runner_config
    accumulation = runner.gradient_accumulation_steps
    batch = runner.batch_size * plan.world.size
    per_step = batch * accumulation
    steps = len(source) // per_step
    if steps == 0:
        ranks = f" x {plan.world.size} ranks" if plan.world.size > 1 else ""
        problems.append(
            f"runner_config: one step needs {per_step} images (batch_size {runner.batch_size} x "
            f"gradient_accumulation_steps {accumulation}{ranks}), the data set has {len(source)}"
        )
        return None
    length = Length(runner.epochs, steps, accumulation, runner.max_steps, batch, len(source))
    schedule = plan.run.lr_schedule
    if schedule.warmup_steps is not None and schedule.warmup_steps >= length.total_steps:
        problems.append(
            f"lr_schedule.warmup_steps: {schedule.warmup_steps} given, but the run has "
            f"{length.total_steps} steps: the learning rate would never reach its peak"
        )
    return length


def peak_lr(plan: Plan) -> float:
    """The learning rate after warm-up, by the scaling rule if `lr_scale` is on."""
    runner, base = plan.run.runner_config, plan.run.lr_schedule.learning_rate
    if not plan.run.lr_scale:
        return base
    effective = runner.batch_size * runner.gradient_accumulation_steps * plan.world.size
    return scaled_lr(base, effective, plan.run.lr_scale_factor)


def workers_of(dataset: DatasetConfig) -> int:
    """Loader processes: as configured, but no more than there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    return min(dataset.workers if dataset.workers is not None else 8, cores)


def bad_samples(plan: Plan, name: str, source: ImageSource) -> BadSamples:
    """The list of the bad images of "train" or "eval", in the output directory."""
    dataset: DatasetConfig = getattr(plan.run, f"{name}_dataset")
    directory = Path(plan.run.output_dir).expanduser()
    return BadSamples(f"{name}_dataset", len(source), dataset.max_bad_samples, directory)


def train_loader(plan: Plan, source: ImageSource) -> Loader:
    """Batches for the train step."""
    dataset = plan.run.train_dataset
    assert dataset is not None
    is_mae = not plan.labelled
    return Loader(
        source,
        plan.train_transforms or plan.processor.transforms,
        plan.run.runner_config.batch_size,
        seed=plan.run.seed,
        shuffle=dataset.data_loader.shuffle,
        drop_last=True,
        num_workers=workers_of(dataset),
        rank=plan.world.rank,
        world_size=plan.world.size,
        mixup=plan.mixup,
        num_classes=None if is_mae else plan.network.num_labels,
        label_smoothing=dataset.label_smoothing,
        noise_length=plan.network.num_patches if is_mae else 0,
        drop_noise_length=drop_noise_length(plan),
        token_grid=plan.network.grid if getattr(plan.network, "mix_token", False) else None,
        label_maps=label_maps(plan),
        with_labels=plan.labelled,
        repeated_augmentation=dataset.repeated_augmentation,
        bad_samples=bad_samples(plan, "train", source),
    )


def drop_noise_length(plan: Plan) -> int:
    """Uniform numbers an image needs for drop path: two a block."""
    rate = getattr(plan.network, "drop_path_rate", 0.0)
    return 2 * plan.network.num_hidden_layers if rate > 0 else 0


def eval_loader(
    plan: Plan,
    source: ImageSource,
    bad: BadSamples | None = None,
    *,
    labelled: bool | None = None,
) -> Loader:
    """Batches for evaluation: in order, every image once, the last batch padded.

    `labelled` is the task's unless given: labels, or else the noise of a masked autoencoder.
    """
    labelled = plan.labelled if labelled is None else labelled
    dataset = plan.run.eval_dataset
    assert dataset is not None
    return Loader(
        source,
        plan.eval_transforms or plan.processor.transforms,
        dataset.batch_size or plan.run.runner_config.batch_size,
        seed=plan.run.seed,
        shuffle=False,
        drop_last=False,
        num_workers=workers_of(dataset),
        rank=plan.world.rank,
        world_size=plan.world.size,
        noise_length=0 if labelled else plan.network.num_patches,
        with_labels=labelled,
        bad_samples=bad or bad_samples(plan, "eval", source),
    )
