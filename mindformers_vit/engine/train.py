"""Training and fine-tuning: the parts built and put into the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from mindformers_vit import compat
from mindformers_vit.checkpoint.store import load_checkpoint
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.callbacks.evaluate import EvaluateCallback
from mindformers_vit.engine.callbacks.report_writer import ReportWriter
from mindformers_vit.engine.evaluator import measurement
from mindformers_vit.engine.gradient_mean import GradientMean, StatisticsMean
from mindformers_vit.engine.loop import Length, TrainLoop
from mindformers_vit.engine.loss_scale import LossScale
from mindformers_vit.engine.parallel import World, check_end, check_start
from mindformers_vit.engine.plan import Plan
from mindformers_vit.engine.resume import ResumePoint, mark_finished, saver_of, set_aside
from mindformers_vit.engine.signals import Signals
from mindformers_vit.engine.train_step import TrainStep, training_forward
from mindformers_vit.engine.weights import find_weights, load_network
from mindformers_vit.errors import CheckpointError, ConfigError, SaveError
from mindformers_vit.optim import schedules
from mindformers_vit.optim.choose import make_optimizer
from mindformers_vit.optim.ema import Ema
from mindformers_vit.optim.groups import parameter_rules

logger = logging.getLogger(__name__)


def train(
    plan: Plan,
    data: build.Data,
    network: Any,
    directory: Path,
    config_text: str,
    start: ResumePoint | None = None,
    callbacks: Sequence[Any] = (),
) -> None:
    """Train `network` (default: the plan's, new or from its checkpoint) to the end of the run."""
    assert data.train is not None
    assert data.length is not None
    network = load_network(plan, None if start else find_weights(plan), network)
    if start is None and plan.world.is_first:
        set_aside(directory)
    step = _train_step(plan, network, data.length)
    report = ReportWriter.of(plan, network, data.train, data.evaluation)
    signals = Signals()
    evaluation = None
    if data.evaluation is not None:
        measure = measurement(network, plan, data, observe=report.observe)
        evaluation = partial(_evaluate, network, step.ema, measure, signals)
    save = partial(_save_network, network, step.ema, plan, directory)
    hooks = [*_evaluation_callback(plan), *plan.callbacks, *callbacks, report]
    loop = TrainLoop(
        length=data.length,
        loader=loaders.train_loader(plan, data.train),
        train_step=step,
        learning_rate=learning_rate(plan, data.length),
        output_dir=directory,
        saver=saver_of(plan, directory, config_text),
        signals=signals,
        max_skipped=plan.run.runner_config.max_skipped_steps,
        callbacks=[c for c in hooks if plan.world.is_first or c.every_rank],
        evaluator=evaluation,
        save_network=save if plan.world.is_first else None,
        world=plan.world,
    )
    if start is None:
        logger.info("a new run in '%s'", directory)
    else:
        tensors, state, _ = load_checkpoint(start.path)
        loop.restore(tensors, state, start.named)
    check_start(plan.world, step.tensors, loop.global_step)
    with signals:
        loop.run()
        check_end(plan.world, step.tensors, loop.global_step)
        if plan.world.is_first:
            logger.info("network saved in %s", save("network"))
            mark_finished(directory, loop.global_step)


def learning_rate(plan: Plan, length: Length) -> Callable[[int], float]:
    """The schedule: step (from 0) -> learning rate."""
    settings = plan.run.lr_schedule
    if settings.type == "cosine_by_epoch":
        return _by_epoch(plan, length)
    warmup = settings.warmup_steps
    if warmup is None:
        warmup = round((settings.warmup_epochs or 0) * length.steps_per_epoch)
    total = settings.total_steps if settings.total_steps > 0 else length.total_steps
    common = {
        "learning_rate": build.peak_lr(plan),
        "warmup_steps": warmup,
        "warmup_lr_init": settings.warmup_lr_init,
    }
    if settings.type == "constant_with_warmup":
        return partial(schedules.constant, **common)
    kind = schedules.cosine if settings.type == "cosine" else schedules.linear
    # a MindFormers yaml may warm up for longer than it runs; see engine/contradictions.py
    return partial(kind, total_steps=max(total, warmup), lr_end=settings.lr_end, **common)


def _by_epoch(plan: Plan, length: Length) -> Callable[[int], float]:
    settings = plan.run.lr_schedule
    return partial(
        schedules.cosine_by_epoch,
        learning_rate=build.peak_lr(plan),
        steps_per_epoch=length.steps_per_epoch,
        epochs=length.epochs,
        warmup_epochs=settings.warmup_epochs or 0,
        cooldown_epochs=settings.cooldown_epochs,
        warmup_lr_init=settings.warmup_lr_init,
        lr_end=settings.lr_end,
    )


def _train_step(plan: Plan, network: Any, length: Length) -> TrainStep:
    run = plan.run
    if run.recompute_config.recompute:
        _recompute(network)
    forward = training_forward(network, drop_path=loaders.drop_noise_length(plan) > 0)
    params = network.trainable_params()
    rules = parameter_rules(
        {p.name: tuple(p.shape) for p in params},
        weight_decay=run.optimizer.weight_decay,
        no_weight_decay=network.no_weight_decay(),
        layer_decay=run.layer_decay if run.layer_scale else 1.0,
        layer_id=network.layer_id,
        num_layers=plan.network.num_hidden_layers,
    )
    wrapper = run.runner_wrapper
    dtype = compat.resolve_dtype(plan.network.compute_dtype, compat.device())
    followed = [*params, *network.moving_statistics()]
    return TrainStep(
        forward,
        make_optimizer(run.optimizer, params, rules),
        accumulation=length.accumulation,
        max_grad_norm=wrapper.max_grad_norm if wrapper.use_clip_grad else None,
        ema=Ema(followed, run.ema.decay) if run.ema is not None else None,
        loss_scale=LossScale(wrapper.scale_sense) if dtype == "float16" else None,
        reduce=_mean(plan.world, params),
        average=_statistics_mean(plan.world, network.moving_statistics()),
    )


def _recompute(network: Any) -> None:
    """Keep of each block its input only, where the device's compiler can."""
    blocks = [*getattr(network, "blocks", ()), *getattr(network, "decoder_blocks", ())]
    if not blocks:
        raise ConfigError("recompute_config.recompute: True given, but the network has no blocks")
    for block in blocks:
        block.recompute()


def _mean(world: World, params: Any) -> GradientMean | None:
    if world.size == 1:
        return None
    shapes = [tuple(p.shape) for p in params]
    return GradientMean(shapes, world.size, joined=compat.device() == "CPU")


def _statistics_mean(world: World, statistics: Any) -> StatisticsMean | None:
    mean = _mean(world, statistics)
    return StatisticsMean(statistics, mean) if mean is not None and statistics else None


def _evaluation_callback(plan: Plan) -> list[Any]:
    if not plan.run.do_eval or plan.run.eval_dataset is None:
        return []
    dataset = plan.run.eval_dataset
    settings = {"epoch_interval": dataset.eval_interval, "start_epoch": dataset.eval_offset}
    return [EvaluateCallback(**settings)]


def _evaluate(
    network: Any, ema: Ema | None, measure: Callable[[], dict[str, float]], signals: Signals
) -> dict[str, float]:
    """Metrics of the averaged weights where there are any, else of the weights."""
    with ema.swapped_in() if ema is not None else nullcontext(), signals.at_once():
        metrics = measure()
    network.set_train(True)
    return metrics


def _save_network(network: Any, ema: Ema | None, plan: Plan, directory: Path, name: str) -> Path:
    """The network alone, with its configuration, labels and processor; SaveError if it fails."""
    target = directory / "checkpoint_network" / "rank_0"
    if name != "network":
        target = target / name
    try:
        with ema.swapped_in() if ema is not None else nullcontext():
            network.save_pretrained(target, save_name="network", processor=plan.processor)
    except (OSError, CheckpointError) as error:
        raise SaveError(f"the network cannot be saved: {error}") from error
    return target
