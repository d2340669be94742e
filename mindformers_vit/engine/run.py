"""A plan carried out: train, fine-tune, evaluate, predict or export."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit import compat
from mindformers_vit.data.bad_samples import FILE_NAME, BadSamples
from mindformers_vit.data.class_folders import check_class_folders
from mindformers_vit.engine import build, loaders, output, parallel, reporting
from mindformers_vit.engine.plan import Plan
from mindformers_vit.engine.resume import ResumePoint, find_resume_point
from mindformers_vit.engine.run_lock import only_run_in
from mindformers_vit.engine.signals import held_back
from mindformers_vit.engine.weights import (
    check_settings,
    check_weights,
    find_weights,
    load_network,
    warn_of_preprocessing,
    with_labels,
)
from mindformers_vit.kernels import library
from mindformers_vit.tools.image_tools import list_images

logger = logging.getLogger(__name__)


def describe(plan: Plan) -> str:
    """What a run would do, after checking everything but the compilation (the dry run)."""
    data = build.open_data(plan)
    start = _resume_point(plan, data, output.directory_of(plan))
    weights = None if start else check_weights(plan)
    lines = [*plan.warnings, f"run_mode {plan.run.run_mode}: {plan.family.arch}"]
    if data.train is not None and data.length is not None:
        length = data.length
        lines.append(
            f"{len(data.train)} training images; {length.epochs} epochs x {length.steps_per_epoch} "
            f"steps of {length.batch_size} x {length.accumulation} images = {length.total_steps} "
            f"steps; peak learning rate {build.peak_lr(plan):.4g}"
        )
    if data.evaluation is not None:
        lines.append(f"{len(data.evaluation)} evaluation images")
    lines.append(f"device {compat.resolve_device(plan.run.context.device_target)}")
    if start is None:
        lines.append(f"weights: {weights or 'new, from the seed'}")
    else:
        lines.append(f"{'finished' if start.finished else 'goes on from'}: {start}")
    return "\n".join([*lines, "nothing wrong found"])


def run(
    plan: Plan,
    *,
    inputs: Any = None,
    network: Any = None,
    processor: Any = None,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Carry out a plan.

    Args:
        inputs: for prediction: path, URL, image, array or a list; default: `predict.data`.
        network: a network to use in the place of a new one.
        processor: preprocessing in the place of the plan's.
        callbacks: more callbacks for training.

    Returns:
        None after training, a dict of metrics after evaluation, a list after prediction, the
        file's path after export.
    """
    if plan.world.is_scheduler:
        _start_device(plan)
        return None
    data = build.open_data(plan, has_inputs=inputs is not None)
    if data.train is not None:
        plan = with_labels(plan, data.train.classes)
    directory = output.prepare(plan)
    writes = plan.run.is_training and plan.world.is_first  # for all ranks
    with only_run_in(directory) if writes else nullcontext():
        for warning in plan.warnings:
            logger.warning(warning)
        return _carry_out(plan, data, directory, inputs, network, processor, callbacks)


def _carry_out(
    plan: Plan,
    data: build.Data,
    directory: Path,
    inputs: Any,
    network: Any,
    processor: Any,
    callbacks: Sequence[Any],
) -> Any:
    mode = plan.run.run_mode
    start = _resume_point(plan, data, directory)
    if start is not None and start.finished and network is None:
        logger.info(
            "this run is finished: %s; nothing is done. --resume_training False or another "
            "--output_dir makes a new run",
            start,
        )
        return None
    config_text = output.config_text(plan)
    device = _start_device(plan, directory)
    if plan.world.is_first:
        output.write_config(plan, directory, config_text)
    where = f" (rank {plan.world.rank} of {plan.world.size})" if plan.world.size > 1 else ""
    logger.info("%s on %s%s, output in %s", mode, device, where, directory)
    if plan.run.is_training:
        from mindformers_vit.engine.train import train

        return train(plan, data, network, directory, config_text, start, callbacks)
    if network is None or plan.run.load_checkpoint:
        weights = find_weights(plan)
        assert weights is not None
        check_settings(plan, weights)
        if (plan.eval_transforms if mode == "eval" else processor) is None:
            warn_of_preprocessing(plan, weights)
        plan = with_labels(plan, weights.id2label)
        network = load_network(plan, weights, network)
    if mode == "predict":
        return _predict(plan, inputs, network, processor, directory)
    if mode == "export":
        return _export(plan, network, processor, directory)
    return _evaluate(plan, data, network, directory)


def _start_device(plan: Plan, directory: Path | None = None) -> str:
    """Choose the device and meet the other ranks; the device's name."""
    context = plan.run.context
    with held_back():  # of a MindSpore that is half imported, Python's end would abort
        if directory is not None:
            compat.log_to(directory / "log")
        name = compat.set_device(
            "CPU" if plan.world.is_scheduler else context.device_target,
            device_id=parallel.device_id(plan.world, context.device_id),
            mode=context.mode,
            memory=context.max_device_memory,
        )
    library.choose_matmul(context.cpu_matmul)
    parallel.join(plan.world)
    return name


def _resume_point(plan: Plan, data: build.Data, directory: Path) -> ResumePoint | None:
    """The checkpoint that a training run goes on from."""
    if data.train is None or data.length is None:
        return None
    text = output.config_text(with_labels(plan, data.train.classes))
    return find_resume_point(plan, data.length, directory, text)


def _evaluate(plan: Plan, data: build.Data, network: Any, directory: Path) -> dict[str, float]:
    from mindformers_vit.engine.evaluator import measurement

    assert data.evaluation is not None
    labels = plan.network.id2label if plan.labelled else None
    where = "eval_dataset.data_loader.dataset_dir"
    check_class_folders(labels, data.evaluation.classes, where)
    bad = loaders.bad_samples(plan, "eval", data.evaluation)
    answers: list[Any] = []
    metrics = measurement(network, plan, data, bad, answers.append)()
    count = int(np.sum(parallel.gather(plan.world, np.array([len(bad.reasons)]))))
    counted = len(data.evaluation) - count
    record = {"metrics": metrics, "images": counted, "bad_samples": count}
    record |= {"load_checkpoint": plan.run.load_checkpoint}
    if plan.world.is_first:
        (directory / "eval_result.json").write_text(json.dumps(record, indent=1) + "\n")
    logger.info("%d images evaluated, each once", counted)
    if count:
        logger.warning(
            "%d of %d images could not be read and do NOT count; they are listed in %s",
            count, bad.total, directory / FILE_NAME,
        )  # fmt: skip
    for name, value in metrics.items():
        logger.info("%s = {'%s': %s}", name, name, value)
    if plan.world.is_first:
        found = answers[0] if answers else None
        reporting.after_evaluation(plan, directory, found, data.evaluation, metrics)
    return metrics


def _predict(plan: Plan, inputs: Any, network: Any, processor: Any, directory: Path) -> list[Any]:
    from mindformers_vit.pipelines.factory import pipeline

    settings = plan.run.predict
    options: dict[str, Any] = {"seed": plan.run.seed}
    if plan.labelled:
        options = {"top_k": settings.top_k, "candidate_labels": settings.candidate_labels}
    task = pipeline(
        plan.family.task,
        model=network,
        image_processor=processor or plan.processor,
        batch_size=settings.batch_size,
        output_dir=directory,
        **options,
    )
    if inputs is not None:
        return list(task(inputs))
    pictures = list_images(list(settings.data))
    bad = BadSamples("predict.data", len(pictures), len(pictures), directory)
    task.on_bad_image = lambda name, error: bad.add(name, str(error))
    results = list(task(pictures))
    if bad.reasons:
        logger.warning(
            "%d of %d images could not be read and have NO result; they are listed in %s",
            len(bad.reasons), bad.total, directory / FILE_NAME,
        )  # fmt: skip
    return results


def _export(plan: Plan, network: Any, processor: Any, directory: Path) -> Path:
    from mindformers_vit.deploy.export import export_network

    name = plan.run.trainer.model_name or plan.family.name
    return export_network(
        network, processor or plan.processor, directory / "export", name, plan.run.export
    )
