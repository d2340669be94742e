"""Evaluation: every image exactly once, whatever the batch size and the number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np

from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.loader import Loader
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.knn_evaluation import KnnEvaluation
from mindformers_vit.engine.parallel import ONE, World, gather
from mindformers_vit.engine.plan import Plan
from mindformers_vit.metrics import Accuracy
from mindformers_vit.models.layers.patch_embed import patchify
from mindformers_vit.report.confusion import answers

Observer = Callable[[np.ndarray[Any, Any]], None]  # of the `answers` to all images


def measurement(
    network: Any,
    plan: Plan,
    data: build.Data,
    bad: BadSamples | None = None,
    observe: Observer | None = None,
) -> Callable[[], dict[str, float]]:
    """What an evaluation by this plan does; to be called as often as it is due.

    `bad` is told of images that cannot be read, which do not count; `observe` of a classifier's
    answers (not of kNN, which has no logits).
    """
    if plan.run.metric.type == "KNN":
        return KnnEvaluation(network, plan, data, bad)
    assert data.evaluation is not None
    loader = loaders.eval_loader(plan, data.evaluation, bad)

    def measure() -> dict[str, float]:
        with loader:
            return evaluate(network, loader, plan.family.task, observe, plan.world)

    return measure


def evaluate(
    network: Any,
    loader: Loader,
    task: str,
    observe: Observer | None = None,
    world: World = ONE,
) -> dict[str, float]:
    """Metrics of `network` over all images, of which `loader` has this rank's.

    `observe` is given on every rank or on none, and gets a classifier's answers to all images.

    Returns:
        `{"Top1 Accuracy": fraction, "Top5 Accuracy": fraction}` for a classifier,
        `{"Loss": mean reconstruction loss over the images}` for masked image modeling.
    """
    network.set_train(False)
    if task == "masked_image_modeling":
        return _reconstruction(network, loader, world)
    counts, found = Accuracy(), []
    for batch in loader.epoch(0):
        logits = network(ms.Tensor(batch["image"])).asnumpy()
        counts.add(logits, batch["label"], batch["valid"])
        found.append(answers(batch, logits))
    whole = Accuracy()
    whole.merge(gather(world, counts.counts))
    if observe is not None:
        observe(np.concatenate(gather(world, np.concatenate(found))))
    return whole.result()


def _reconstruction(network: Any, loader: Loader, world: World) -> dict[str, float]:
    """Mean of each image's masked loss; the sum does not depend on the order of the images."""
    losses, valid = [], []
    for batch in loader.epoch(0):
        _, pred, mask = network(ms.Tensor(batch["image"]), ms.Tensor(batch["noise"]))
        target = patchify(batch["image"], network.config.patch_size)
        if network.config.norm_pix_loss:
            var = target.var(-1, keepdims=True, ddof=1)
            target = (target - target.mean(-1, keepdims=True)) / np.sqrt(var + 1e-6)
        masked = mask.asnumpy()
        error = ((pred.asnumpy() - target) ** 2).mean(-1)
        losses.append((error * masked).sum(-1) / masked.sum(-1))
        valid.append(batch["valid"])
    everywhere = np.concatenate(gather(world, np.concatenate(losses)))
    counted = everywhere[np.concatenate(gather(world, np.concatenate(valid)))]
    return {"Loss": math.fsum(counted) / max(len(counted), 1)}
