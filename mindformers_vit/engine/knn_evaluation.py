"""How good a pretrained encoder's features are, without training: kNN over the training images."""

from __future__ import annotations

import logging
import time
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.loader import Loader
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.knn import knn_votes
from mindformers_vit.engine.parallel import gather
from mindformers_vit.engine.plan import Plan
from mindformers_vit.errors import TrainingError
from mindformers_vit.metrics import Accuracy

logger = logging.getLogger(__name__)


class Features(nn.Cell):
    """Images (B, C, H, W) to features (B, D) of length 1, every patch visible.

    Args:
        network: has `forward_features`: images to tokens (B, 1 + N, D), the class token first.
        feature: "mean" of the patches, or "cls_token".
    """

    def __init__(self, network: nn.Cell, feature: str) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.is_mean = feature == "mean"

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        tokens = self.network.forward_features(image).astype(ms.float32)  # (B, 1 + N, D)
        x = tokens[:, 1:].mean(1) if self.is_mean else tokens[:, 0]  # (B, D)
        length = ops.sqrt(ops.square(x).sum(-1, keepdims=True))  # (B, 1)
        return x / ops.maximum(length, ms.Tensor(1e-12, ms.float32))


class KnnEvaluation:
    """Call it for `{"KNN Top1 Accuracy": fraction, "KNN Top5 Accuracy": fraction}`.

    The encoder's forward is compiled once, however often it is called. Training images get the
    preprocessing of evaluation; batches of both are of one shape.
    """

    def __init__(
        self, network: Any, plan: Plan, data: build.Data, bad: BadSamples | None = None
    ) -> None:
        assert data.neighbors is not None
        assert data.evaluation is not None
        self.network, self.settings, self.world = network, plan.run.metric, plan.world
        self.features = Features(network, self.settings.feature)
        self.bank = loaders.eval_loader(plan, data.neighbors, labelled=True)
        self.queries = loaders.eval_loader(plan, data.evaluation, bad, labelled=True)

    def __call__(self) -> dict[str, float]:
        began = time.perf_counter()
        self.network.set_train(False)
        bank, labels = self._all_features(self.bank)
        queries, truth = self._all_features(self.queries)
        encoded = time.perf_counter()
        settings = self.settings
        votes = knn_votes(
            queries,
            bank,
            labels,
            num_classes=1 + int(max(labels.max(), truth.max())),
            num_neighbors=settings.num_neighbors,
            temperature=settings.temperature,
        )
        counts = Accuracy()
        counts.add(votes, truth)
        logger.info(
            "kNN: %d training images, %d to classify; features %.1f s, votes %.1f s",
            len(bank), len(queries), encoded - began, time.perf_counter() - encoded,
        )  # fmt: skip
        return {f"KNN {name}": value for name, value in counts.result().items()}

    def _all_features(self, loader: Loader) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) and labels (N,) of every image of all ranks, in the order of the source."""
        rows: list[tuple[np.ndarray, ...]] = []
        with loader:
            for batch in loader.epoch(0):
                found = self.features(ms.Tensor(batch["image"])).asnumpy()  # (B, D)
                rows.append((found, batch["label"], batch["index"], batch["valid"]))
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        features, labels, index, valid = (
            np.concatenate(gather(self.world, column)) for column in columns
        )
        places = np.flatnonzero(valid)
        places = places[np.argsort(index[places])]
        if not np.isfinite(features[places]).all():
            raise TrainingError("kNN: features of the encoder are not finite")
        return features[places], labels[places]
