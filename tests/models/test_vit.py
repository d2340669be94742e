"""The classifier gives the reference's numbers; drop path; the timm-like contract."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindformers_vit.models.model_io import load_weights
from mindformers_vit.models.vit.vit import ViTForImageClassification
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.models.conftest import VIT_TINY, golden


def test_golden_mean_pooling(vit_tiny):
    case = golden("vit_mean_pool_tiny")
    logits = ms.jit(vit_tiny)(Tensor(case["images"])).asnumpy()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)
    again = vit_tiny(Tensor(case["images"])).asnumpy()
    np.testing.assert_allclose(again, case["logits"], rtol=0, atol=1e-5)


def test_golden_class_token(converted):
    network = ViTForImageClassification(ViTConfig(**VIT_TINY, use_mean_pooling=False))
    load_weights(network, converted("vit_cls_token_tiny"))
    case = golden("vit_cls_token_tiny")
    logits = network(Tensor(case["images"])).asnumpy()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_drop_path_drops_whole_branches_of_single_samples(vit_tiny):
    """Rates 0, 0.15, 0.3: noise 1 keeps everything, scaled by 1/keep; noise 0 leaves block 0."""
    images = Tensor(golden("vit_mean_pool_tiny")["images"])
    noise = np.zeros((2, 6), np.float32)
    noise[1] = 0.999
    features = vit_tiny.forward_features(images, Tensor(noise)).asnumpy()

    x = vit_tiny.blocks[0](_embedded(vit_tiny, images))
    np.testing.assert_allclose(features[0], x.asnumpy()[0], atol=1e-5)
    for block, keep in zip(list(vit_tiny.blocks)[1:], (0.85, 0.7), strict=True):
        x = x + block.attn(block.norm1(x)) / keep
        x = x + block.mlp(block.norm2(x)) / keep
    np.testing.assert_allclose(features[1], x.asnumpy()[1], atol=1e-5)


def test_drop_path_compiles_into_the_graph(vit_tiny):
    images = Tensor(golden("vit_mean_pool_tiny")["images"])
    noise = Tensor(np.linspace(0, 0.99, 12, dtype=np.float32).reshape(2, 6))

    @ms.jit
    def forward(images, noise):
        return vit_tiny(images, noise)

    expected = vit_tiny.forward_head(vit_tiny.forward_features(images, noise))
    np.testing.assert_allclose(forward(images, noise).asnumpy(), expected.asnumpy(), atol=1e-5)


def test_contract_of_timm(vit_tiny):
    images = Tensor(golden("vit_mean_pool_tiny")["images"])
    features = vit_tiny.forward_features(images)
    assert features.shape == (2, 17, 48)
    assert vit_tiny.forward_head(features, pre_logits=True).shape == (2, vit_tiny.num_features)
    assert vit_tiny.forward_head(features).shape == (2, 10)
    assert vit_tiny.num_layers == 3
    assert vit_tiny.no_weight_decay() == {"pos_embed", "cls_token"}


def test_groups_are_those_of_the_reference(vit_tiny):
    """Learning-rate scale (decay 0.65) and weight decay of every parameter."""
    case = golden("vit_finetune_10steps")
    named = {_torch_name(p.name): p for p in vit_tiny.trainable_params()}
    spared = vit_tiny.no_weight_decay()
    assert named.keys() == {str(name) for name in case["group_names"]}
    groups = zip(
        case["group_names"], case["group_lr_scale"], case["group_weight_decay"], strict=True
    )
    for name, scale, decay in groups:
        param = named[str(name)]
        assert np.isclose(0.65 ** (4 - vit_tiny.layer_id(param.name)), scale), name
        assert (len(param.shape) > 1 and param.name not in spared) == (decay > 0), name


def _embedded(network, images):
    from mindspore import ops

    from mindformers_vit.models.layers.patch_embed import patchify

    x = network.patch_embed(patchify(images, 8))
    return ops.cat((ops.tile(network.cls_token, (2, 1, 1)), x), 1) + network.pos_embed


def _torch_name(name: str) -> str:
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")
