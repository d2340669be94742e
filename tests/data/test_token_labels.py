"""Token labels: maps, boxes and targets against independent computations."""

import numpy as np
import pytest
import torch
from PIL import Image

from mindformers_vit.data.mixup import mix_token_box
from mindformers_vit.data.token_labels import (
    dense_logits,
    flip_map,
    load_label_map,
    map_box,
    roi_align,
    token_targets,
    warp_map,
)
from mindformers_vit.errors import DataError

pytestmark = pytest.mark.fast


def make_map(h=6, w=6, kept=3, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((classes, h, w)), 0)[:kept]
    return np.stack([rng.normal(5, 2, (kept, h, w)), ids]).astype(np.float32)


def bilinear(plane, y, x):
    """One sample, from the definition: 0 further than one place outside, the border repeated."""
    h, w = plane.shape
    if y < -1 or y > h or x < -1 or x > w:
        return 0.0
    grid = torch.tensor([[[[2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1]]]], dtype=torch.float64)
    source = torch.tensor(plane, dtype=torch.float64)[None, None]
    sampled = torch.nn.functional.grid_sample(
        source, grid, padding_mode="border", align_corners=True
    )
    return sampled.item()


@pytest.mark.parametrize(
    "box",
    [(0.3, 1.2, 4.9, 5.5), (-0.5, -0.5, 5.5, 5.5), (2.0, 2.0, 2.4, 2.1), (-3.0, 1.0, 9.0, 8.0)],
)
def test_roi_align_is_the_mean_of_its_samples(box):
    features = np.random.default_rng(1).normal(size=(2, 6, 6)).astype(np.float32)
    rows, columns = 2, 3
    x1, y1, x2, y2 = box
    height, width = max(y2 - y1, 1.0) / rows, max(x2 - x1, 1.0) / columns
    tall, wide = int(np.ceil(height)), int(np.ceil(width))
    expected = np.zeros((2, rows, columns))
    for k, i, j in np.ndindex(2, rows, columns):
        samples = [
            bilinear(
                features[k],
                y1 + (i + (a + 0.5) / tall) * height,
                x1 + (j + (b + 0.5) / wide) * width,
            )
            for a in range(tall)
            for b in range(wide)
        ]
        expected[k, i, j] = np.mean(samples)
    np.testing.assert_allclose(roi_align(features, box, (rows, columns)), expected, atol=1e-5)


def test_the_order_of_the_axes_can_be_chosen():
    crop = (0.0, 0.5, 0.25, 0.5)  # top right
    assert map_box(crop, (8, 8), "straight") == (3.5, -0.5, 7.5, 1.5)
    assert map_box(crop, (8, 8)) == (-0.5, 3.5, 1.5, 7.5)


def test_dense_logits_are_zero_elsewhere():
    label_map = make_map()
    dense = dense_logits(label_map, 10)
    assert (dense != 0).sum() == 3 * 36
    for m, y, x in np.ndindex(3, 6, 6):
        assert dense[int(label_map[1, m, y, x]), y, x] == label_map[0, m, y, x]


def test_targets_from_their_definition():
    label_map, crop, s = make_map(), (0.1, 0.2, 0.6, 0.7), 0.1
    found = token_targets(label_map, 4, 10, crop=crop, grid=(2, 3), smoothing=s, order="straight")
    assert found.shape == (8, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], np.eye(10)[4] * (1 - s) + s / 10, atol=1e-6)
    box = map_box(crop, (6, 6), "straight")
    for cells, rows in (((1, 1), found[1:2]), ((2, 3), found[2:])):
        logits = torch.tensor(roi_align(dense_logits(label_map, 10), box, cells))
        p = torch.softmax(logits.reshape(10, -1).T, -1).numpy()
        np.testing.assert_allclose(rows, p * (1 - s + s / 10) + s / 10, atol=1e-6)


def test_maps_follow_the_image():
    label_map = make_map()
    np.testing.assert_array_equal(flip_map(label_map)[..., 0], label_map[..., -1])
    shear = (1.0, 0.3, -4.0, 0.0, 1.0, 0.0)
    warped = warp_map(label_map, shear, (6, 6))
    image = Image.fromarray(label_map[0, 0])
    expected = image.transform((6, 6), Image.Transform.AFFINE, shear, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(warped[0, 0], np.asarray(expected))
    assert warped[1].min() >= 0
    halved = warp_map(label_map, (1.0, 0.0, 8.0, 0.0, 1.0, 0.0), (48, 48))  # 8 pixels a place
    np.testing.assert_array_equal(halved[..., :5], label_map[..., 1:])
    assert not halved[0, ..., 5].any()


def test_files_are_checked(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, make_map().astype(np.float16))
    assert load_label_map(path, 10).shape == (2, 3, 6, 6)
    with pytest.raises(DataError, match=r"classes outside 0\.\.7"):
        load_label_map(path, 8)
    np.save(path, np.zeros((3, 2, 2)))
    with pytest.raises(
        DataError,
        match=r"an array \(2, M, h, w\) of numbers, M at most the 8 classes; found \(3, 2, 2\)",
    ):
        load_label_map(path, 8)
    np.save(path, np.zeros((2, 9, 2, 2)))
    with pytest.raises(DataError, match=r"a\.npy: .* found \(2, 9, 2, 2\)"):
        load_label_map(path, 8)
    np.save(path, np.zeros((2, 1, 2, 2), complex))
    with pytest.raises(DataError, match=r"found something else"):
        load_label_map(path, 8)
    for content in (b"no array", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy: cannot be read as a label map"):
            load_label_map(path, 8)


def test_mix_token_boxes_lie_in_the_grid_and_vary():
    boxes = [mix_token_box(0, 1, step, (14, 14)) for step in range(500)]
    assert boxes == [mix_token_box(0, 1, step, (14, 14)) for step in range(500)]
    assert boxes != [mix_token_box(0, 2, step, (14, 14)) for step in range(500)]
    for top, left, bottom, right in boxes:
        assert 0 <= top <= bottom <= 14
        assert 0 <= left <= right <= 14
    shares = [(b - t) * (r - left) / 196 for t, left, b, r in boxes]
    assert 0.2 < np.mean(shares) < 0.45
