"""An exported file is run against its network before anybody sees it (promise P10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mindformers_vit.deploy.model_manifest import Verification
from mindformers_vit.errors import ExportError

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
TOLERANCE = 1e-4  # of a logit in float32; of the largest logit where that is below 1
IMAGES = 8  # at least


def check_images(processor: Any, image_hw: tuple[int, int], batch_size: int | None) -> Array:
    """Pictures of coloured noise as the network takes them, (N, 3, H, W); full batches."""
    size = batch_size or 1
    count = -(-IMAGES // size) * size
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, *image_hw, 3), dtype=np.uint8)
    images: Array = processor(list(pictures))
    return images


def in_batches(run: Run, images: Array, batch_size: int | None) -> Array:
    """The logits of all images; an open batch is tried with two sizes."""
    if batch_size is None:
        return np.concatenate([run(images[:1]), run(images[1:])])
    starts = range(0, len(images), batch_size)
    return np.concatenate([run(images[start : start + batch_size]) for start in starts])


def compare(found: Array, wanted: Array, *, tolerance: float | None, runtime: str) -> Verification:
    """What is known after both have run.

    Args:
        found: (N, K) logits of the exported file.
        wanted: (N, K) of the network.
        tolerance: the largest difference allowed; None: any that is finite.
        runtime: what ran the file.

    Raises:
        ExportError: they differ by more.
    """
    if found.shape != wanted.shape:
        raise ExportError(
            f"the exported file gives logits of shape {found.shape}, the network {wanted.shape}"
        )
    difference = float(np.abs(found.astype(np.float64) - wanted).max())
    largest = float(np.abs(wanted).max())
    limit = np.finfo(np.float32).max if tolerance is None else tolerance * min(1.0, largest)
    if not difference <= limit:  # NaN is not
        allowed = "a finite one" if tolerance is None else f"{limit:g}"
        raise ExportError(
            f"the exported file does not compute what the network computes: a logit differs by "
            f"{difference:.3g} on {len(wanted)} images, allowed is {allowed}; nothing was kept"
        )
    return Verification(
        runtime=runtime,
        images=len(wanted),
        max_difference=difference,
        tolerance=tolerance,
        top1_agreement=float((found.argmax(1) == wanted.argmax(1)).mean()),
    )
