"""From a plan and its images to batches. Needs no MindSpore."""

from __future__ import annotations

import os
from pathlib import Path

from mindformers_vit.config.schema import DatasetConfig
from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.label_maps import LabelMaps
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import ImageSource
from mindformers_vit.engine.plan import Plan


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
