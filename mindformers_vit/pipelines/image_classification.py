"""image_classification: the most likely classes of each picture, in the checkpoint's own words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.data.imagenet import imagenet_labels
from mindformers_vit.errors import ConfigError
from mindformers_vit.pipelines.base import Pipeline, positive, tasks

Scores = list[dict[str, Any]]


@tasks.register("image_classification")
class ImageClassificationPipeline(Pipeline):
    """`pipe(images) -> [[{'score': 0.88, 'label': 'daisy'}, ...], ...]`, best first.

    Args:
        top_k: Classes named per picture; at most as many as there are.
        candidate_labels: Names of the classes in place of `network.config.id2label`;
            "imagenet": those of ImageNet-1k.
    """

    task = "image_classification"

    def __init__(
        self,
        network: Any,
        processor: Any,
        *,
        batch_size: int = 1,
        output_dir: str | Path | None = None,
        save_file: str | Path | None = None,
        top_k: int = 3,
        candidate_labels: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__(
            network, processor, batch_size=batch_size, output_dir=output_dir, save_file=save_file
        )
        if hasattr(network.config, "norm_pix_loss"):
            raise ConfigError(
                f"model: {type(network).__name__} reconstructs images (task "
                "masked_image_modeling); it does not classify them"
            )
        if candidate_labels == "imagenet":
            candidate_labels = list(imagenet_labels().values())
        if isinstance(candidate_labels, str):
            raise ConfigError(
                f"candidate_labels: '{candidate_labels}' given; allowed: a list of names, imagenet"
            )
        self.top_k = positive("top_k", top_k)
        self.candidate_labels = None if candidate_labels is None else list(candidate_labels)

    def __call__(
        self, images: Any, *, batch_size: int | None = None, top_k: int | None = None
    ) -> list[Scores]:
        top_k = self.top_k if top_k is None else positive("top_k", top_k)
        names: list[str] = []
        results: list[Scores] = []
        for batch in self.batches(images, batch_size):
            logits = self.run(batch.pixel_values)[0][: batch.count]  # (count, num_labels)
            labels = self._labels(logits.shape[-1])
            results += [best_classes(row, labels, top_k) for row in softmax(logits)]
            names += batch.names
        records = [
            {"file": name, "predictions": scores}
            for name, scores in zip(names, results, strict=True)
        ]
        lines = [
            f"{name}: " + ", ".join(f"{item['label']} {item['score']:.4f}" for item in scores)
            for name, scores in zip(names, results, strict=True)
        ]
        self.write(records, lines)
        return results

    def _labels(self, count: int) -> list[str]:
        """One name a class; a class without a name is called LABEL_<number>."""
        if self.candidate_labels is not None:
            if len(self.candidate_labels) != count:
                raise ConfigError(
                    f"candidate_labels: {len(self.candidate_labels)} names, "
                    f"but the network has {count} classes"
                )
            return self.candidate_labels
        named = getattr(self.network.config, "id2label", None) or {}
        if not isinstance(named, dict):
            named = dict(enumerate(named))
        known = {int(key): str(value) for key, value in named.items()}
        return [known.get(k, f"LABEL_{k}") for k in range(count)]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def best_classes(scores: NDArray[np.float64], labels: list[str], top_k: int) -> Scores:
    """The `top_k` best of one picture, best first; of equals the first class wins."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"score": float(scores[k]), "label": labels[k]} for k in order]
