"""From a masked autoencoder's numbers to pictures a person can look at. Pure numpy and Pillow.

Letters: C channels, H W picture, P patch side, gh gw patches down and across, L = gh * gw.
A patch is a row of P*P*C numbers, in the order (row, column, channel), as in the MAE paper's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindformers_vit.errors import DataError

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

GREY = 127.5
READABLE = 224  # panels smaller than this are enlarged, by a whole factor
EPSILON = 1e-6  # of the network's per-patch normalisation


@dataclass(frozen=True)
class Reconstruction:
    """Four pictures (H, W, C) uint8, and the network's loss on this image alone."""

    original: Pixels
    masked: Pixels  # removed patches grey
    predicted: Pixels  # every patch from the network
    pasted: Pixels  # removed patches from the network, visible ones from the original
    loss: float


def reconstruct(
    pixel_values: Floats,
    pred: Floats,
    mask: NDArray[Any],
    *,
    patch: int,
    mean: Sequence[float],
    std: Sequence[float],
    norm_pix_loss: bool,
) -> Reconstruction:
    """Pictures of one image.

    Args:
        pixel_values: The network's input (C, H, W), normalised by mean and std (of a range 0..1).
        pred: The network's output (L, P*P*C).
        mask: (L,), 1 where the patch was removed.
        norm_pix_loss: The network was trained on patches normalised one by one, so each of its
            patches is brought back with the mean and variance of the true one.
    """
    truth = pixel_values.transpose(1, 2, 0)  # (H, W, C)
    target = patchify(truth, patch)  # (L, P*P*C)
    pred, removed = np.asarray(pred, np.float32), np.asarray(mask) > 0.5
    if pred.shape != target.shape or removed.shape != target.shape[:1]:
        raise DataError(
            f"pred {pred.shape} and mask {removed.shape} do not fit an image {pixel_values.shape} "
            f"in patches of {patch}: {target.shape} and {target.shape[:1]} expected"
        )
    loss = patch_loss(pred, target, removed, norm_pix_loss=norm_pix_loss)
    if norm_pix_loss:
        pred = denormalise_patches(pred, target)
    size = (truth.shape[0], truth.shape[1])
    original = to_pixels(truth, mean, std)
    predicted = to_pixels(unpatchify(pred, size, patch), mean, std)
    hidden = patch_plane(removed, size, patch)[..., None]  # (H, W, 1)
    masked = np.where(hidden, np.uint8(round(GREY)), original)
    return Reconstruction(original, masked, predicted, np.where(hidden, predicted, original), loss)


def patchify(picture: Floats, patch: int) -> Floats:
    """(H, W, C) -> (L, P*P*C)."""
    height, width, channels = picture.shape
    if height % patch or width % patch:
        raise DataError(f"an image of {height}x{width} is not divisible into patches of {patch}")
    cells = picture.reshape(height // patch, patch, width // patch, patch, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(-1, patch * patch * channels)


def unpatchify(patches: Floats, size: tuple[int, int], patch: int) -> Floats:
    """(L, P*P*C) -> (H, W, C); the inverse of `patchify`."""
    down, across = size[0] // patch, size[1] // patch
    cells = patches.reshape(down, across, patch, patch, -1)
    return cells.transpose(0, 2, 1, 3, 4).reshape(*size, -1)


def patch_plane(values: NDArray[np.bool_], size: tuple[int, int], patch: int) -> NDArray[np.bool_]:
    """One value a patch (L,) -> one value a pixel (H, W)."""
    cells = values.reshape(size[0] // patch, size[1] // patch)
    return cells.repeat(patch, axis=0).repeat(patch, axis=1)


def denormalise_patches(pred: Floats, target: Floats) -> Floats:
    """Each patch with the mean and the unbiased variance of the true patch (L, P*P*C)."""
    mean, var = _statistics(target)
    return pred * np.sqrt(var + EPSILON) + mean


def patch_loss(
    pred: Floats, target: Floats, removed: NDArray[np.bool_], *, norm_pix_loss: bool
) -> float:
    """The network's loss on one image: mean squared error over the removed patches."""
    if norm_pix_loss:
        mean, var = _statistics(target)
        target = (target - mean) / np.sqrt(var + EPSILON)
    errors = np.square(pred - target).mean(axis=-1)  # (L,)
    return float(errors[removed].mean()) if removed.any() else 0.0


def _statistics(target: Floats) -> tuple[Floats, Floats]:
    return target.mean(-1, keepdims=True), target.var(-1, ddof=1, keepdims=True)


def to_pixels(picture: Floats, mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """(H, W, C) normalised by mean and std -> (H, W, C) uint8, clipped to 0..255 and rounded."""
    channels = picture.shape[-1]
    if channels not in (1, 3):
        raise DataError(f"pictures have 1 or 3 channels; the network has {channels}")
    scale, offset = np.asarray(std, np.float32), np.asarray(mean, np.float32)
    for name, values in (("mean", offset), ("std", scale)):
        if values.size not in (1, channels):
            raise DataError(f"{name}: {values.size} values for a network of {channels} channels")
    values = (picture * scale.reshape(-1) + offset.reshape(-1)) * 255
    return np.rint(np.clip(np.nan_to_num(values, nan=GREY), 0, 255)).astype(np.uint8)


def to_image(pixels: Pixels) -> Image.Image:
    """(H, W, 1 or 3) uint8 -> PIL RGB."""
    if pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    return Image.fromarray(np.ascontiguousarray(pixels))


def composite(panels: Sequence[Image.Image]) -> Image.Image:
    """The panels side by side on white with small gaps, tiny ones enlarged to a readable size."""
    factor = max(1, round(READABLE / max(panels[0].size)))
    width, height = panels[0].width * factor, panels[0].height * factor
    gap = max(2, max(width, height) // 40)
    sheet = Image.new("RGB", (len(panels) * (width + gap) - gap, height), "white")
    for k, panel in enumerate(panels):
        enlarged = panel.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (k * (width + gap), 0))
    return sheet
