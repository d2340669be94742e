"""The masked autoencoder gives the reference's numbers."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindformers_vit.models.mae.mae import ViTMAEForPreTraining
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.model_io import load_weights
from tests.models.conftest import MAE_TINY, golden

CASE = golden("mae_pretrain_tiny")
IMAGES, NOISE = Tensor(CASE["images"]), Tensor(CASE["noise"])


def our_name(name: str) -> str:
    if "norm" not in name:
        return name
    return name.replace(".weight", ".gamma").replace(".bias", ".beta")


@pytest.mark.parametrize("mode", ["graph", "pynative"])
def test_golden_forward_and_every_gradient(mae_tiny, mode):
    params = mae_tiny.trainable_params()
    step = ms.value_and_grad(mae_tiny, None, params, has_aux=True)
    step = ms.jit(step) if mode == "graph" else step
    (loss, pred, mask), grads = step(IMAGES, NOISE)

    assert abs(float(loss) - CASE["loss_norm_pix"]) < 1e-5
    np.testing.assert_allclose(pred.asnumpy(), CASE["pred"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(mask.asnumpy(), CASE["mask"])
    expected = {our_name(k[5:]): v for k, v in CASE.items() if k.startswith("grad/")}
    assert expected.keys() == {param.name for param in params}
    for param, grad in zip(params, grads, strict=True):
        np.testing.assert_allclose(
            grad.asnumpy(), expected[param.name], rtol=0, atol=1e-4, err_msg=param.name
        )


def test_golden_encoder(mae_tiny):
    latent, mask, ids_restore = mae_tiny.forward_encoder(IMAGES, NOISE)
    np.testing.assert_allclose(latent.asnumpy(), CASE["latent"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(mask.asnumpy(), CASE["mask"])
    np.testing.assert_array_equal(ids_restore.asnumpy(), CASE["ids_restore"])


def test_golden_loss_on_raw_pixels(converted):
    network = ViTMAEForPreTraining(ViTMAEConfig(**MAE_TINY, norm_pix_loss=False))
    load_weights(network, converted("mae_pretrain_tiny"))
    assert abs(float(network(IMAGES, NOISE)[0]) - CASE["loss_raw"]) < 1e-5


def test_features_do_not_depend_on_the_order_of_patches(mae_tiny):
    """With every patch visible the encoder is the plain ViT trunk."""
    features = mae_tiny.forward_features(IMAGES)
    assert features.shape == (2, 17, 48)
    np.testing.assert_allclose(features.asnumpy().mean(-1), 0, atol=2)
    again = mae_tiny.forward_features(IMAGES[1:])
    np.testing.assert_allclose(again.asnumpy(), features.asnumpy()[1:], atol=1e-5)


def test_position_embeddings_are_not_trained(mae_tiny):
    frozen = {p.name for p in mae_tiny.get_parameters() if not p.requires_grad}
    assert frozen == {"pos_embed", "decoder_pos_embed"}
    assert mae_tiny.no_weight_decay() == set()
    assert mae_tiny.layer_id("blocks.1.mlp.fc1.weight") == 2
    assert mae_tiny.layer_id("decoder_blocks.0.mlp.fc1.weight") == 3


def test_images_need_not_be_square():
    network = ViTMAEForPreTraining(ViTMAEConfig(**MAE_TINY | {"image_size": [16, 32]}))
    images = Tensor(np.ones((1, 3, 16, 32), np.float32))
    noise = Tensor(np.linspace(0, 0.9, 8, dtype=np.float32)[None])
    loss, pred, mask = network(images, noise)
    assert pred.shape == (1, 8, 192)
    np.testing.assert_array_equal(mask.asnumpy(), [[0, 0, 1, 1, 1, 1, 1, 1]])
    assert np.isfinite(float(loss))


def test_half_precision_matmuls_stay_near(converted):
    network = ViTMAEForPreTraining(ViTMAEConfig(**MAE_TINY, compute_dtype="float16"))
    load_weights(network, converted("mae_pretrain_tiny"))
    loss, pred, _ = network(IMAGES, NOISE)
    assert pred.dtype == ms.float32
    assert abs(float(loss) - CASE["loss_norm_pix"]) < 5e-3
