"""How one batch is made: the same code in the calling process and in a worker.

A `BatchPlan` says which samples, a `Recipe` says what is done to them; `Recipe.fill` writes the
arrays of the batch dict (docs/architecture.md) in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mindformers_vit.data.decode import load_rgb
from mindformers_vit.data.label_maps import LabelMaps
from mindformers_vit.data.mixup import Mixup, mix_images, mix_token_box, soft_targets
from mindformers_vit.data.rng import sample_noise, sample_rng
from mindformers_vit.data.transforms import Compose
from mindformers_vit.errors import DataError

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """One array of a batch: its key, its shape with the batch axis, its dtype."""

    key: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Sample:
    """One sample to make: the file, its position in the source, its label (-1: none).

    `copy` tells the copies of repeated augmentation within an epoch apart.
    """

    path: str
    index: int
    label: int = -1
    epoch: int = 0
    copy: int = 0


@dataclass(frozen=True)
class BatchPlan:
    """The samples of one batch; `step` counts within the epoch, the same on every rank."""

    epoch: int
    step: int
    samples: tuple[Sample, ...]
    valid: tuple[bool, ...]


class BadSample(DataError):
    """The sample in this row of the batch cannot be made."""

    def __init__(self, reason: str, row: int) -> None:
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True)
class Recipe:
    """What is done to the samples of every batch; picklable, holds no data."""

    transforms: Compose
    image_shape: tuple[int, int, int]
    batch_size: int
    seed: int
    labelled: bool = False
    padded: bool = False
    mixup: Mixup | None = None
    num_classes: int | None = None
    label_smoothing: float = 0.0
    noise_length: int = 0
    drop_noise_length: int = 0
    token_grid: tuple[int, int] | None = None
    label_maps: LabelMaps | None = None

    def fields(self) -> list[Field]:
        """The arrays of a batch."""
        size = self.batch_size
        found = [Field("image", (size, *self.image_shape), "float32")]
        if self.labelled and self.mixup is None and not self.label_smoothing:
            found.append(Field("label", (size,), "int32"))
        if self.labelled and self.num_classes is not None:
            shape = self.label_maps.shape if self.label_maps else (self.num_classes,)
            found.append(Field("target", (size, *shape), "float32"))
        if self.noise_length:
            found.append(Field("noise", (size, self.noise_length), "float32"))
        if self.drop_noise_length:
            found.append(Field("drop_noise", (size, self.drop_noise_length), "float32"))
        if self.token_grid:
            found.append(Field("mix_box", (size, 4), "int32"))
        found.append(Field("index", (size,), "int64"))
        return [*found, Field("valid", (size,), "bool")] if self.padded else found

    def fill(self, plan: BatchPlan, out: Batch) -> None:
        """Make the batch; BadSample naming the file of a sample that cannot be made."""
        labels = np.empty(self.batch_size, np.int32)
        for row, sample in enumerate(plan.samples):
            if row and not plan.valid[row] and sample == plan.samples[row - 1]:
                _repeat_row(out, labels, row)
                continue
            try:
                self._pixels(sample, row, out)
            except DataError as error:
                raise BadSample(str(error), row) from error
            labels[row], out["index"][row] = sample.label, sample.index
            self._noise(sample, row, out)
        if "valid" in out:
            out["valid"][:] = plan.valid
        if self.token_grid:
            out["mix_box"][:] = mix_token_box(self.seed, plan.epoch, plan.step, self.token_grid)
        if self.labelled:
            self._labels(plan, labels, out)

    def _pixels(self, sample: Sample, row: int, out: Batch) -> None:
        """The image, and with it the targets that its label map gives."""
        image: Image = load_rgb(sample.path)
        view = self.label_maps.view_of(sample.path) if self.label_maps else None
        rng = sample_rng(self.seed, sample.epoch, sample.index, "augment", sample.copy)
        try:
            self.transforms.into(image, rng, out["image"][row], view)
        except Exception as error:
            size = f"{image.width}x{image.height}"
            raise DataError(
                f"{sample.path}: transforms failed on this {size} image: {error}"
            ) from error
        if self.label_maps and view is not None:
            out["target"][row] = self.label_maps.targets(view, sample.label)

    def _noise(self, sample: Sample, row: int, out: Batch) -> None:
        where = (self.seed, sample.epoch, sample.index)
        for key, purpose in (("noise", "mask"), ("drop_noise", "drop_path")):
            if key in out:
                out[key][row] = sample_noise(*where, purpose, out[key].shape[1], sample.copy)

    def _labels(self, plan: BatchPlan, labels: NDArray[np.int32], out: Batch) -> None:
        """`label`, `target`, and mixup, which changes the images too."""
        if "label" in out:
            out["label"][:] = labels
        lam, smoothing = 1.0, self.label_smoothing
        if self.mixup is not None:
            mix = self.mixup.draw(self.seed, plan.epoch, plan.step, *self.image_shape[1:])
            mix_images(out["image"], mix)
            lam, smoothing = mix.lam, self.mixup.label_smoothing
        if self.num_classes is not None and self.label_maps is None:
            out["target"][:] = soft_targets(labels, self.num_classes, smoothing, lam)


def _repeat_row(out: Batch, labels: NDArray[np.int32], row: int) -> None:
    labels[row] = labels[row - 1]
    for key in ("image", "target", "noise", "drop_noise", "index"):
        if key in out:
            out[key][row] = out[key][row - 1]
