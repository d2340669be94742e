"""A plan carried out: train, fine-tune, evaluate or predict."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindformers_vit import compat
from mindformers_vit.engine import build, output
from mindformers_vit.engine.plan import Plan
from mindformers_vit.engine.weights import (
    check_settings,
    check_weights,
    find_weights,
    load_network,
    with_labels,
)
from mindformers_vit.errors import DataError
from mindformers_vit.kernels import library

logger = logging.getLogger(__name__)


def describe(plan: Plan) -> str:
    """What a run would do, after checking everything but the compilation (the dry run)."""
    data = build.open_data(plan)
    weights = check_weights(plan)
    lines = [*plan.warnings, f"run_mode {plan.run.run_mode}: {plan.family.arch}"]
    if data.train is not None and data.length is not None:
        runner, length = plan.run.runner_config, data.length
        lines.append(
            f"{len(data.train)} training images; {length.epochs} epochs x {length.steps_per_epoch} "
            f"steps of {runner.batch_size} x {length.accumulation} images = {length.total_steps} "
            f"steps; peak learning rate {build.peak_lr(plan):.4g}"
        )
    if data.evaluation is not None:
        lines.append(f"{len(data.evaluation)} evaluation images")
    lines.append(f"device {compat.resolve_device(plan.run.context.device_target)}")
    lines.append(f"weights: {weights or 'new, from the seed'}")
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
        None after training, a dict of metrics after evaluation, a list after prediction.
    """
    mode = plan.run.run_mode
    if mode == "predict" and inputs is None:
        inputs = list(plan.run.predict.data) or None
    data = build.open_data(plan, has_inputs=inputs is not None)
    if data.train is not None:
        plan = with_labels(plan, data.train.classes)
    directory, config_text = output.prepare(plan)
    for warning in plan.warnings:
        logger.warning(warning)
    context = plan.run.context
    device = compat.set_device(
        context.device_target,
        device_id=context.device_id,
        mode=context.mode,
        memory=context.max_device_memory,
    )
    library.choose_matmul(context.cpu_matmul)
    logger.info("%s on %s, output in %s", mode, device, directory)
    if plan.run.is_training:
        from mindformers_vit.engine.train import train

        return train(plan, data, network, directory, config_text, callbacks)
    if network is None or plan.run.load_checkpoint:
        weights = find_weights(plan)
        assert weights is not None
        check_settings(plan, weights)
        plan = with_labels(plan, weights.id2label)
        network = load_network(plan, weights, network)
    if mode == "predict":
        return _predict(plan, inputs, network, processor, directory)
    return _evaluate(plan, data, network, directory)


def _evaluate(plan: Plan, data: build.Data, network: Any, directory: Path) -> dict[str, float]:
    from mindformers_vit.engine.evaluator import evaluate

    assert data.evaluation is not None
    _check_labels(plan, data.evaluation.classes)
    with build.eval_loader(plan, data.evaluation) as loader:
        metrics = evaluate(network, loader, plan.family.task)
    record = {"metrics": metrics, "images": len(data.evaluation)}
    record |= {"load_checkpoint": plan.run.load_checkpoint}
    (directory / "eval_result.json").write_text(json.dumps(record, indent=1) + "\n")
    logger.info("%d images evaluated, each once", len(data.evaluation))
    for name, value in metrics.items():
        logger.info("%s = {'%s': %s}", name, name, value)
    return metrics


def _check_labels(plan: Plan, classes: tuple[str, ...] | None) -> None:
    """The folders must be the classes that the weights were trained on, in the same order."""
    labels = plan.network.id2label if plan.labelled else None
    if labels is None or classes is None or list(labels.values()) == list(classes):
        return
    pairs = [(i, labels[i], name) for i, name in enumerate(classes) if labels.get(i) != name]
    index, known, given = pairs[0]
    raise DataError(
        f"eval_dataset.data_loader.dataset_dir: class folder {index} is '{given}', but class "
        f"{index} of the weights is '{known}' ({len(pairs)} of {len(classes)} differ)"
    )


def _predict(plan: Plan, inputs: Any, network: Any, processor: Any, directory: Path) -> list[Any]:
    from mindformers_vit.pipelines.factory import pipeline

    settings = plan.run.predict
    task = pipeline(
        plan.family.task,
        model=network,
        image_processor=processor or plan.processor,
        batch_size=settings.batch_size,
        output_dir=directory,
        **_task_options(plan),
    )
    results: list[Any] = task(inputs)
    return results


def _task_options(plan: Plan) -> dict[str, Any]:
    settings = plan.run.predict
    if plan.labelled:
        return {"top_k": settings.top_k}
    return {"seed": plan.run.seed}
