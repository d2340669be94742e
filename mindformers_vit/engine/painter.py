"""The same few pictures, painted by a masked autoencoder at several epochs, as strips of JPEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mindformers_vit.engine.plan import Plan
from mindformers_vit.models.mae.mae_numpy import NumpyMAE
from mindformers_vit.pipelines.masked_image_modeling import MaskedImageModelingPipeline

PICTURES = 6
_SIDE = 128  # pixels of a picture in a strip
_GAP = 4
_BETWEEN = (96, 104, 114)  # looks right on a light page and on a dark one


class Painter:
    """Paints the same pictures with the same hidden patches each time, on the host.

    Args:
        network: the one in training; it is only read.
        paths: image files.
    """

    def __init__(self, plan: Plan, network: Any, paths: Sequence[str]) -> None:
        self._plan, self._network = plan, network
        (self._batch,) = self._pipeline({}).batches(list(paths), len(paths))

    def paint(self, folder: Path, epoch: int) -> None:
        """Write `epoch_<n>.jpg`, and the first time `original.jpg` and `masked.jpg`."""
        results = self._pipeline(self._network.state_arrays()).batch_results(self._batch)
        for name in ("original", "masked"):
            if not (folder / f"{name}.jpg").is_file():
                _strip([result[name] for result in results], folder / f"{name}.jpg")
        _strip([result["data"] for result in results], folder / f"epoch_{epoch:05}.jpg")

    def _pipeline(self, arrays: Mapping[str, Any]) -> MaskedImageModelingPipeline:
        network = NumpyMAE(self._plan.network, arrays)
        return MaskedImageModelingPipeline(
            network, self._plan.processor, output_dir=None, seed=self._plan.run.seed
        )


def _strip(pictures: Sequence[Image.Image], path: Path) -> None:
    """The pictures side by side."""
    width, height = pictures[0].size
    scale = _SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    step = size[0] + _GAP
    sheet = Image.new("RGB", (step * len(pictures) - _GAP, size[1]), _BETWEEN)
    for place, picture in enumerate(pictures):
        sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), (place * step, 0))
    sheet.save(path, "JPEG", quality=85)
