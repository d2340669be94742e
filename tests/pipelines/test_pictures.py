"""The picture maths of masked image modeling."""

import numpy as np
import pytest

from mindformers_vit.errors import DataError
from mindformers_vit.pipelines.pictures import (
    composite,
    denormalise_patches,
    patch_loss,
    patchify,
    reconstruct,
    to_image,
    to_pixels,
    unpatchify,
)

pytestmark = pytest.mark.fast


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_patch_order_is_row_column_channel():
    picture = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    patches = patchify(picture, 2)
    assert patches.shape == (6, 12)
    assert np.array_equal(patches[1], picture[:2, 2:4].reshape(-1))
    assert np.array_equal(patches[3], picture[2:4, :2].reshape(-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_unpatchify_undoes_patchify(channels):
    picture = random(8, 12, channels)
    assert np.array_equal(unpatchify(patchify(picture, 4), (8, 12), 4), picture)


def test_patches_must_fit():
    with pytest.raises(DataError, match="9x8 is not divisible into patches of 4"):
        patchify(random(9, 8, 3), 4)


def test_denormalise_undoes_the_networks_normalisation():
    target = random(6, 48)
    mean = target.mean(-1, keepdims=True)
    std = np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(
        denormalise_patches((target - mean) / std, target), target, atol=1e-6
    )


def test_loss_counts_removed_patches_only():
    target, removed = np.zeros((4, 12), np.float32), np.array([True, False, True, False])
    pred = np.array([1, 100, 3, 100], np.float32)[:, None].repeat(12, 1)
    assert patch_loss(pred, target, removed, norm_pix_loss=False) == 5
    assert patch_loss(pred, target, np.zeros(4, bool), norm_pix_loss=False) == 0


def test_pixels_are_clipped_and_rounded_not_wrapped():
    values = np.array([[[-5.0], [0.0], [100.6 / 255], [5.0], [np.nan]]], np.float32)
    assert to_pixels(values, [0.0], [1.0])[0, :, 0].tolist() == [0, 0, 101, 255, 128]


def test_channels_and_statistics_must_fit():
    with pytest.raises(DataError, match="the network has 4"):
        to_pixels(random(4, 4, 4), [0.5], [0.5])
    with pytest.raises(DataError, match="std: 2 values for a network of 3 channels"):
        to_pixels(random(4, 4, 3), [0.5], [0.5, 0.5])


@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruct(norm_pix_loss, channels):
    mean, std = [0.4] * channels, [0.25] * channels
    pixels = random(channels, 8, 12) * 4 - 2
    target = patchify(pixels.transpose(1, 2, 0), 4)
    pred = target + 0.5
    if norm_pix_loss:
        average = target.mean(-1, keepdims=True)
        pred = (pred - average) / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    mask = np.array([1, 0, 1, 1, 0, 1], np.float32)
    made = reconstruct(pixels, pred, mask, patch=4, mean=mean, std=std, norm_pix_loss=norm_pix_loss)
    truth = to_pixels(pixels.transpose(1, 2, 0), mean, std)
    moved = to_pixels(pixels.transpose(1, 2, 0) + 0.5, mean, std).astype(int)
    assert np.array_equal(made.original, truth)
    assert np.abs(made.predicted - moved).max() <= 1
    assert (made.masked[:4, :4] == 128).all()
    assert np.array_equal(made.masked[:4, 4:8], truth[:4, 4:8])
    assert np.array_equal(made.pasted[:4, 4:8], truth[:4, 4:8])
    assert np.array_equal(made.pasted[:4, :4], made.predicted[:4, :4])
    if not norm_pix_loss:
        assert made.loss == pytest.approx(0.25, rel=1e-5)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(DataError, match=r"pred \(5, 48\).*\(4, 48\).*expected"):
        reconstruct(
            random(3, 8, 8), random(5, 48), np.ones(5), patch=4, mean=[0.5], std=[0.5],
            norm_pix_loss=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "sheet"), [((32, 32), (4 * 229 - 5, 224)), ((64, 48), (4 * 262 - 6, 192))]
)
def test_composite_enlarges_tiny_panels(size, sheet):
    panel = to_image(np.zeros((size[1], size[0], 1), np.uint8))
    made = composite([panel] * 4)
    assert panel.mode == "RGB"
    assert made.size == sheet
    assert made.getpixel((0, 0)) == (0, 0, 0)
    assert made.getpixel((7 * size[0] if size[0] == 32 else 4 * size[0], 0)) == (255, 255, 255)


def test_composite_leaves_large_panels_alone():
    assert composite([to_image(np.zeros((300, 400, 3), np.uint8))] * 4).size == (4 * 410 - 10, 300)
