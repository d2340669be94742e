"""What a classifier takes for what."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.data.decode import load_rgb
from mindformers_vit.errors import DataError

Array = np.ndarray[Any, Any]
_WORST = 12  # examples
_SIDE = 128  # pixels of an example's picture

Class = Annotated[int, Field(ge=0, lt=1 << 17)]


class WorstExample(StrictModel):
    """A wrong answer."""

    file: str
    label: Class
    predicted: Class
    confidence: float
    picture: str  # JPEG in base64, or ""


class Evaluation(StrictModel):
    """What `report/evaluation.json` holds."""

    images: int
    classes: list[str]
    counts: list[tuple[Class, Class, int]]  # label, predicted, images
    worst: list[WorstExample]
    metrics: dict[str, float] = {}
    epoch: int | None = None

    def names(self) -> list[str]:
        """A name for every class that occurs."""
        most = max((max(a, b) for a, b, _ in self.counts), default=-1)
        most = max([most, *(max(item.label, item.predicted) for item in self.worst)])
        return self.classes + [f"class {k}" for k in range(len(self.classes), most + 1)]


def answers(batch: dict[str, Any], logits: Array) -> Array:
    """What each image of a batch of an evaluation loader was taken for.

    Args:
        batch: `label` (B,), `index` (B,), `valid` (B,) as docs/architecture.md says.
        logits: (B, K).

    Returns:
        (B, 4) float64: label (-1: padding), predicted, the winner's share, index.
    """
    logits = logits.astype(np.float64)
    shares = 1 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)  # (B,)
    labels = np.where(batch["valid"], batch["label"], -1)
    return np.stack([labels, logits.argmax(-1), shares, batch["index"]], axis=1)


def evaluation_of(
    found: Array, paths: Sequence[str], classes: Sequence[str], **more: Any
) -> Evaluation:
    """Counts and worst examples, with their pictures.

    Args:
        found: (N, 4), the `answers` of a whole evaluation in any order.
        paths: of the images, by index.
    """
    found = found[found[:, 0] >= 0]
    pairs, shares, index = found[:, :2].astype(int), found[:, 2], found[:, 3].astype(int)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    wrong = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    surest = wrong[np.lexsort((index[wrong], -shares[wrong]))][:_WORST]
    worst = [
        WorstExample(
            file=_clean(paths[index[row]]),
            label=pairs[row, 0],
            predicted=pairs[row, 1],
            confidence=round(shares[row], 4),
            picture=thumbnail(paths[index[row]]),
        )
        for row in surest
    ]
    return Evaluation(
        images=len(found),
        classes=[_clean(name) for name in classes],
        counts=[(*pair, n) for pair, n in zip(kinds.tolist(), counts.tolist(), strict=True)],
        worst=worst,
        **more,
    )


def _clean(name: str) -> str:
    """A file name whose bytes are no UTF-8 has lone surrogates, which JSON cannot hold."""
    return name.encode("utf-8", errors="backslashreplace").decode("utf-8")


def thumbnail(path: str | Path) -> str:
    """A small JPEG in base64, "" for a picture that cannot be read."""
    try:
        image = load_rgb(path)
    except DataError:
        return ""
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
