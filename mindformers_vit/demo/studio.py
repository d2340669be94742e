"""What the page asks for, without the page: paint what is hidden, or name what is seen.

MindSpore is used from one thread only, however many clicks arrive, and in PyNative mode, so that
another mask ratio needs no compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindformers_vit import compat
from mindformers_vit.errors import DataError
from mindformers_vit.pipelines.factory import pipeline
from mindformers_vit.pipelines.pictures import to_image, to_pixels
from mindformers_vit.tools.image_tools import load_image

T = TypeVar("T")
TOP = 5
_SIDE = 384  # pixels of a picture that is shown


@dataclass(frozen=True)
class Painted:
    """What the network saw and made, enlarged for the screen."""

    original: Image.Image
    masked: Image.Image
    painted: Image.Image
    words: str


@dataclass(frozen=True)
class Named:
    """The most likely classes, and where the network looked (None: it has no attention)."""

    scores: dict[str, float]
    attention: Image.Image | None


class Studio:
    """A network with its processor, ready for questions.

    Args:
        load_checkpoint: a model name, a saved network's directory, or a run's output directory.

    Raises:
        ConfigError, CheckpointError: as `AutoModel.from_pretrained`.
    """

    def __init__(self, load_checkpoint: str) -> None:
        self._thread = ThreadPoolExecutor(1, "mindspore")
        self.name = load_checkpoint
        self._run(self._open)

    @property
    def paints(self) -> bool:
        """A masked autoencoder; else a classifier."""
        return self._network.family.task == "masked_image_modeling"

    @property
    def mask_ratio(self) -> float:
        """The one that it was trained with."""
        return float(self._network.config.mask_ratio)

    def paint(self, path: str, mask_ratio: float, seed: int = 0) -> Painted:
        """Hide patches of the picture and paint them; DataError if it is no picture."""
        return self._run(lambda: self._paint(_open_picture(path), mask_ratio, seed))

    def name_it(self, path: str) -> Named:
        """Classes and attention of the picture; DataError if it is no picture."""
        return self._run(lambda: self._name_it(_open_picture(path)))

    def _run(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _open(self) -> None:
        from mindformers_vit.demo.attention import record
        from mindformers_vit.models.auto import AutoModel, AutoProcessor

        compat.set_device("auto", mode=1)
        self._network = AutoModel.from_pretrained(self.name)
        self._pipeline: Any = pipeline(
            self._network.family.task, self._network, AutoProcessor.from_pretrained(self.name),
            top_k=None if self.paints else TOP,
        )  # fmt: skip
        self._pipeline.output_dir = None
        self._recorders = [] if self.paints else record(self._network)
        grey = Image.new("RGB", (64, 64), "grey")  # so that the first real answer is a quick one
        self._paint(grey, self.mask_ratio, 0) if self.paints else self._name_it(grey)

    def _paint(self, picture: Image.Image, mask_ratio: float, seed: int) -> Painted:
        patches = self._network.config.num_patches
        visible = min(max(round(patches * (1 - mask_ratio)), 1), patches - 1)
        self._network.num_visible = visible
        self._pipeline.seed = seed
        (batch,) = self._pipeline.batches([picture])
        (result,) = self._pipeline.batch_results(batch)
        words = f"{patches - visible} of {patches} patches hidden, loss {result['loss']:.4f}"
        original, masked, painted = (_enlarged(result[k]) for k in ("original", "masked", "data"))
        return Painted(original, masked, painted, words)

    def _name_it(self, picture: Image.Image) -> Named:
        (batch,) = self._pipeline.batches([picture])
        (scores,) = self._pipeline([picture])
        named = {str(item["label"]): float(item["score"]) for item in scores}
        if not self._recorders:
            return Named(named, None)
        return Named(named, self._attention(batch.pixel_values[0]))

    def _attention(self, pixels: NDArray[np.float32]) -> Image.Image:
        """The network's view of the picture, bright where it looked."""
        from mindformers_vit.demo.attention import rollout

        config, processor = self._network.config, self._pipeline.processor
        pooled = getattr(config, "use_mean_pooling", False)
        seen = [recorder.seen[0] for recorder in self._recorders]
        weights = rollout(seen, from_class_token=not pooled).reshape(config.grid)  # (rows, columns)
        weights = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-12)
        view = to_pixels(pixels.transpose(1, 2, 0), processor.mean, processor.std)
        glow = Image.fromarray(np.rint(255 * weights).astype(np.uint8))
        share = (
            np.asarray(glow.resize((view.shape[1], view.shape[0]), Image.Resampling.BICUBIC)) / 255
        )
        lit = view * (0.25 + 0.75 * share[..., None])
        return _enlarged(to_image(np.rint(lit).astype(np.uint8)))


def _open_picture(path: str) -> Image.Image:
    """The picture, under the name that the user gave it."""
    if not path:
        raise DataError("no picture given")
    return load_image(path, name=Path(path).name)


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, _SIDE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
