"""The numpy forward pass gives what the network gives."""

import numpy as np
import pytest

from tests.models.conftest import MAE_TINY


@pytest.mark.parametrize(
    "changes", [{}, {"qkv_bias": False}, {"mask_ratio": 0.4, "image_size": [32, 64]}]
)
def test_same_numbers(changes):
    import mindspore as ms

    from mindformers_vit.models.auto import AutoModel
    from mindformers_vit.models.mae.mae_numpy import NumpyMAE

    settings = {**MAE_TINY, **changes}
    arch = {"type": "ViTMAEForPreTraining"}
    network = AutoModel.from_config({"arch": arch, "model_config": settings}, seed=3)
    rng = np.random.default_rng(0)
    arrays = {  # biases too, and attention that is far from uniform
        name: (value + rng.normal(0, 0.2, value.shape)).astype(np.float32)
        for name, value in network.state_arrays().items()
    }
    network.load_arrays(arrays)
    height, width = network.config.image_hw
    pixels = rng.standard_normal((3, 3, height, width), dtype=np.float32)
    noise = rng.random((3, network.config.num_patches), dtype=np.float32)
    _, pred, mask = network(ms.Tensor(pixels), ms.Tensor(noise))
    _, mine, my_mask = NumpyMAE(network.config, arrays)(pixels, noise)
    assert (my_mask == mask.asnumpy()).all()
    assert mine.dtype == np.float32
    scale = np.abs(mine).max()
    np.testing.assert_allclose(mine / scale, pred.asnumpy() / scale, atol=1e-5)
