"""sMLPNet gives the reference's numbers, in evaluation and in training."""

import re

import numpy as np
import pytest
import torch

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.config.strict import validate
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.layers.parameters import count, initial_value, shapes_of
from mindformers_vit.models.smlpnet import smlpnet_params
from mindformers_vit.models.smlpnet.convert_weight import convert_weight
from mindformers_vit.models.smlpnet.smlpnet_config import FAMILY, SMLPNetConfig
from tests.engine import lab
from tests.models.conftest import GOLDENS, golden
from tests.models.smlpnet_reference import Network

WEIGHTS = GOLDENS / "smlpnet_tiny" / "weights.pth"
SETTINGS = {"image_size": 64, "hidden_size": 16, "depths": (1, 2, 2, 1), "num_labels": 10}
CONFIG = SMLPNetConfig(**SETTINGS, drop_path_rate=0.3)
PUBLISHED = {
    "smlpnet_tiny": (24_123_584, 583, 26),
    "smlpnet_small": (48_558_136, 847, 38),
    "smlpnet_base": (65_880_408, 847, 38),
}


def torch_name(name):
    """Ours -> the reference's."""
    for ours, theirs in (
        ("gamma", "weight"),
        ("beta", "bias"),
        ("moving_mean", "running_mean"),
        ("moving_variance", "running_var"),
    ):
        name = re.sub(rf"\.{ours}$", f".{theirs}", name)
    return name


def reference():
    network = Network(CONFIG)
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True)["model"], strict=True)
    return network


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    target = tmp_path_factory.mktemp("smlpnet") / "weights.safetensors"
    assert convert_weight(WEIGHTS, target).layout == "microsoft/SPACH, sMLPNet"
    return target


def make_network(converted):
    from mindformers_vit import compat
    from mindformers_vit.models.model_io import load_weights
    from mindformers_vit.models.smlpnet.smlpnet import SMLPNetForImageClassification

    compat.set_device("CPU")
    network = SMLPNetForImageClassification(CONFIG)
    load_weights(network, converted)
    return network


@pytest.fixture(scope="module")
def network(converted):
    return make_network(converted)


@pytest.mark.fast
def test_the_reference_of_these_tests_gives_the_golden():
    case = golden("smlpnet_tiny")
    with torch.no_grad():
        logits = reference().eval()(torch.from_numpy(case["images"])).numpy()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_golden(network):
    import mindspore as ms

    case = golden("smlpnet_tiny")
    logits = network(ms.Tensor(case["images"])).asnumpy()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_training_gives_the_gradients_and_statistics_of_the_reference(converted):
    """Two batches: with drop path, then without; also the moving statistics after them."""
    import mindspore as ms
    from mindspore import ops

    network, theirs = make_network(converted).set_train(True), reference().train()
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    noise = np.random.default_rng(1).random((4, 12), np.float32)

    def loss_of(images, noise):
        return ops.square(network(images, noise)).sum()

    params = ms.ParameterTuple(network.trainable_params())
    step = ms.jit(ms.value_and_grad(loss_of, None, params))
    for sign in (1, -1):
        loss, grads = step(ms.Tensor(sign * images), ms.Tensor(noise))
        expected = theirs(torch.from_numpy(sign * images), torch.from_numpy(noise)).square().sum()
        theirs.zero_grad()
        expected.backward()
        np.testing.assert_allclose(loss.asnumpy(), expected.item(), rtol=1e-5)
        named = dict(theirs.named_parameters())
        for param, grad in zip(params, grads, strict=True):
            wanted = named[torch_name(param.name)].grad.numpy()
            np.testing.assert_allclose(grad.asnumpy(), wanted, atol=1e-4, err_msg=param.name)
    state, statistics = theirs.state_dict(), network.moving_statistics()
    assert len(statistics) == 26
    for param in statistics:
        wanted = state[torch_name(param.name)].numpy()
        np.testing.assert_allclose(param.asnumpy(), wanted, atol=1e-5, err_msg=param.name)


def test_a_batch_that_is_not_finite_moves_no_statistic(converted):
    import mindspore as ms

    network = make_network(converted).set_train(True)
    before = {p.name: p.asnumpy() for p in network.moving_statistics()}
    network(ms.Tensor(np.full((2, 3, 64, 64), np.nan, np.float32)))
    for param in network.moving_statistics():
        np.testing.assert_array_equal(param.asnumpy(), before[param.name])


def test_contract_of_timm(network):
    import mindspore as ms

    lab.eager()
    network.set_train(False)
    images = ms.Tensor(golden("smlpnet_tiny")["images"])
    features = network.forward_features(images)
    assert features.shape == (2, 4, 128)
    assert network.forward_head(features, pre_logits=True).shape == (2, network.num_features)
    assert (network.num_layers, network.no_weight_decay()) == (6, set())


def test_another_image_size_is_refused(network):
    import mindspore as ms

    with pytest.raises(ValueError, match="images of exactly its image_size"):
        network(ms.Tensor(np.zeros((1, 3, 96, 96), np.float32)))


def test_a_head_for_other_classes_is_new(converted):
    from mindformers_vit.models.model_io import fit_weights
    from mindformers_vit.models.smlpnet.smlpnet import SMLPNetForImageClassification as Model

    config, loaded = SMLPNetConfig(**SETTINGS | {"num_labels": 3}), read_weights(converted)
    report = fit_weights(Model, config, loaded, "", True)[1]
    assert report.new == ("mlp_head.0.bias", "mlp_head.0.weight")
    with pytest.raises(CheckpointError, match=r"~ 2|mlp_head.0.weight: file \(10, 128\)"):
        fit_weights(Model, config, loaded, "", False)


@pytest.mark.fast
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    config = SMLPNetConfig(**FAMILY.variants[name])
    specs = smlpnet_params.parameter_specs(config)
    params, keys, blocks = PUBLISHED[name]
    assert count(specs, trainable_only=True) == params
    assert config.num_hidden_layers == blocks
    with torch.device("meta"):
        state = Network(config).state_dict()
    assert len(state) == keys
    ours = {torch_name(name): shape for name, shape in shapes_of(specs).items()}
    wanted = {n: tuple(t.shape) for n, t in state.items() if "num_batches_tracked" not in n}
    assert ours == wanted


@pytest.mark.fast
def test_derived_numbers():
    config = SMLPNetConfig()
    assert config.stage_starts == (0, 2, 10, 24)
    assert config.stage_widths == (80, 160, 320, 640)
    assert config.stage_grids == ((56, 56), (28, 28), (14, 14), (7, 7))
    assert [config.stage_of(k) for k in (0, 1, 2, 9, 10, 23, 24, 25)] == [0, 0, 1, 1, 2, 2, 3, 3]
    wide = SMLPNetConfig(image_size=[32, 64], depths=[1, 1, 1, 1])
    assert wide.settings()["image_size"] == [32, 64]
    assert wide.settings()["depths"] == [1, 1, 1, 1]
    shapes = shapes_of(smlpnet_params.parameter_specs(wide))
    assert shapes["token_mix.0.1.proj_h.weight"] == (16, 16, 1, 1)  # along the width
    assert shapes["token_mix.0.1.proh_w.weight"] == (8, 8, 1, 1)


@pytest.mark.fast
def test_layers_for_layer_decay():
    config = SMLPNetConfig()
    for name, layer in (
        ("to_patch_embedding.0.0.weight", 0),
        ("token_mix.0.1.fuse.weight", 1),
        ("to_patch_embedding.1.0.weight", 3),
        ("channel_mix.25.2.net.0.bias", 26),
        ("batch_norm.gamma", 27),
        ("mlp_head.0.weight", 27),
    ):
        assert smlpnet_params.layer_id(name, config) == layer, name


@pytest.mark.fast
def test_initial_values_are_those_of_torch():
    specs = smlpnet_params.parameter_specs(CONFIG)
    for name, bound in (
        ("to_patch_embedding.0.0.weight", 48**-0.5),
        ("token_mix.0.0.conv_merge.Conv.weight", 9**-0.5),
        ("token_mix.0.1.proj_h.bias", 16**-0.5),
        ("channel_mix.5.2.net.0.bias", 128**-0.5),
        ("channel_mix.5.2.net.3.bias", 384**-0.5),
    ):
        value = initial_value(name, specs[name], 0)
        assert 0.8 * bound < np.abs(value).max() <= bound, name


@pytest.mark.fast
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"image_size": 240}, "image_size height 240 is not divisible by 8 x patch_size = 32"),
        ({"depths": [2, 8, 14]}, "depths"),
        ({"num_hidden_layers": 3}, "num_hidden_layers: unknown key"),
        ({"num_labels": 2, "id2label": {0: "a"}}, "id2label names 1 classes"),
    ],
)
def test_refused_settings(settings, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        validate(SMLPNetConfig, settings)
