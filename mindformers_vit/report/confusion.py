"""What a classifier takes for what, collected while it is evaluated."""

from __future__ import annotations

import base64
import heapq
import io
from collections import Counter
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


class Confusion:
    """Counts of (label, prediction) and the wrong answers that were given most surely."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self._worst: list[tuple[float, int, int, int]] = []  # heap: share, index, label, predicted

    def add(self, batch: dict[str, Any], logits: Array) -> None:
        """Count a batch of an evaluation loader.

        Args:
            batch: `label` (B,), `index` (B,), `valid` (B,) as docs/architecture.md says.
            logits: (B, K).
        """
        valid = np.asarray(batch["valid"], bool)
        logits, labels = logits[valid].astype(np.float64), batch["label"][valid]
        predicted = logits.argmax(-1)  # (V,)
        self.counts.update(zip(labels.tolist(), predicted.tolist(), strict=True))
        shares = 1 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)  # (V,) of the winner
        for row in np.flatnonzero(predicted != labels):
            item = (float(shares[row]), -int(batch["index"][valid][row]))
            heapq.heappush(self._worst, (*item, int(labels[row]), int(predicted[row])))
            if len(self._worst) > _WORST:
                heapq.heappop(self._worst)

    def evaluation(self, paths: Sequence[str], classes: Sequence[str], **more: Any) -> Evaluation:
        """The counts, and the worst examples with their pictures; `paths` by index."""
        worst = [
            WorstExample(
                file=_clean(paths[-index]),
                label=label,
                predicted=predicted,
                confidence=round(share, 4),
                picture=thumbnail(paths[-index]),
            )
            for share, index, label, predicted in sorted(self._worst, reverse=True)
        ]
        counts = sorted((label, predicted, n) for (label, predicted), n in self.counts.items())
        return Evaluation(
            images=sum(self.counts.values()),
            classes=[_clean(name) for name in classes],
            counts=counts,
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
