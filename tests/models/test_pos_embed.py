"""Position embeddings against the reference and against torch."""

import numpy as np
import pytest
import torch

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.pos_embed import resize_pos_embed, sincos_2d
from mindformers_vit.models.loading import resize_positions
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.models.conftest import golden

CASE = golden("pos_embed")


@pytest.mark.fast
def test_sincos_is_the_reference_s():
    np.testing.assert_allclose(sincos_2d(48, (4, 4)), CASE["sincos_dim48_grid4"], atol=1e-12)
    base = sincos_2d(768, (14, 14))
    np.testing.assert_allclose(base[[2, 15]][:, 384], [0, np.sin(1)], atol=1e-12)
    np.testing.assert_allclose(base[[1, 15]], CASE["sincos_dim768_grid14_rows_1_15"], atol=1e-12)


@pytest.mark.fast
def test_sincos_of_a_wide_grid_counts_columns_first():
    table = sincos_2d(8, (2, 3))[1:]
    assert table.shape == (6, 8)
    np.testing.assert_allclose(table[2, :2], np.sin([2, 0.02]))  # row 0, column 2
    np.testing.assert_allclose(table[3, 4:6], np.sin([1, 0.01]))  # row 1, column 0


@pytest.mark.fast
def test_resize_is_the_reference_s():
    resized = resize_pos_embed(CASE["learned_grid4"], (4, 4), (6, 6))
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, CASE["resized_grid6"], atol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize("new", [(14, 14), (3, 9), (24, 7)])
def test_resize_equals_torch_for_any_grid(new):
    table = np.random.default_rng(0).standard_normal((1, 1 + 70, 5)).astype(np.float32)
    ours = resize_pos_embed(table, (7, 10), new)
    patches = torch.from_numpy(table[:, 1:]).reshape(1, 7, 10, 5).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        patches, size=new, mode="bicubic", align_corners=False, antialias=False
    )
    theirs = theirs.permute(0, 2, 3, 1).reshape(1, -1, 5).numpy()
    np.testing.assert_array_equal(ours[:, :1], table[:, :1])
    np.testing.assert_allclose(ours[:, 1:], theirs, atol=1e-5)


@pytest.mark.fast
def test_errors_name_the_numbers():
    with pytest.raises(ValueError, match="width 6 is no multiple of 4"):
        sincos_2d(6, (2, 2))
    with pytest.raises(CheckpointError, match=r"shape \(1, 18, 48\); only .* the 4x4 grid of"):
        resize_positions(ViTConfig(image_size=64), np.ones((1, 18, 48), np.float32))
