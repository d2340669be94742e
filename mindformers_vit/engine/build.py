"""From a plan to data: sources and lengths, with every problem found. Needs no MindSpore."""

from __future__ import annotations

from dataclasses import dataclass

from mindformers_vit.compat import missing_device
from mindformers_vit.config.schema import DatasetConfig
from mindformers_vit.data.label_maps import LabelMaps
from mindformers_vit.data.sources import ImageSource, open_source
from mindformers_vit.engine import loaders
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
        problems += _missing_maps(loaders.label_maps(plan), train)
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
