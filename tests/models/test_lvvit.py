"""LV-ViT gives the reference's numbers, in evaluation and in training."""

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor

from mindformers_vit.models.lvvit.lvvit import LVViTForImageClassification
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig
from mindformers_vit.models.lvvit.lvvit_stem import Conv
from mindformers_vit.models.model_io import load_weights
from tests.models.conftest import LVVIT_TINY, golden


@pytest.fixture(scope="module", params=[1, 2])
def network_and_case(request, converted):
    name = f"lvvit_tiny_skip{request.param}"
    network = LVViTForImageClassification(LVViTConfig(**LVVIT_TINY, skip_lam=request.param))
    load_weights(network, converted(name))
    return network, golden(name)


def test_golden_evaluation(network_and_case):
    network, case = network_and_case
    network.set_train(False)
    for forward in (network, ms.jit(network)):
        logits = forward(Tensor(case["images"])).asnumpy()
        np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_golden_training_with_mix_token(network_and_case):
    """Batch norm in evaluation mode, as the reference numbers were made."""
    network, case = network_and_case
    network.set_train(True)
    network.patch_embed.set_train(False)
    box = Tensor(case["mix_box"].astype(np.int32).reshape(1, 4))
    x_cls, x_aux = network(Tensor(case["images"]), None, box)
    network.set_train(False)
    np.testing.assert_allclose(x_cls.asnumpy(), case["train_cls"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(x_aux.asnumpy(), case["train_aux"], rtol=0, atol=1e-5)


def test_an_empty_box_mixes_nothing(network_and_case):
    network, case = network_and_case
    images = Tensor(case["images"])
    empty = Tensor(np.array([[2, 2, 2, 4]] * 2, np.int32))
    plain = network.forward_features(images).asnumpy()
    np.testing.assert_array_equal(network.forward_features(images, None, empty).asnumpy(), plain)


def test_drop_path_drops_whole_branches_of_single_samples(converted):
    """Rates 0 and 0.5: noise 0 leaves block 0 only, noise 1 keeps all, doubled in block 1."""
    network = LVViTForImageClassification(LVViTConfig(**LVVIT_TINY, drop_path_rate=0.5))
    load_weights(network, converted("lvvit_tiny_skip2"))
    noise = Tensor(np.array([[0.0] * 4, [0.999] * 4], np.float32))
    x = Tensor(np.random.default_rng(0).normal(size=(2, 17, 48)).astype(np.float32))
    block = network.blocks[1]
    found = block(x, network.drop_path(noise)[:, 2:]).asnumpy()
    kept = x + block.attn(block.norm1(x)) * (2.0 / 2.0)
    kept = kept + block.mlp(block.norm2(kept)) * (2.0 / 2.0)
    np.testing.assert_array_equal(found[0], x.asnumpy()[0])
    np.testing.assert_allclose(found[1], kept.asnumpy()[1], atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "height"), [(3, 1, 8), (7, 2, 64), (3, 2, 7), (7, 2, 9)]
)
def test_convolution_and_its_gradients_are_pytorchs(kernel, stride, height):
    rng = np.random.default_rng(0)
    conv = Conv(2, 5, kernel=kernel, stride=stride, compute_dtype="float32")
    weight = rng.normal(size=(5, 2, kernel, kernel)).astype(np.float32)
    conv.weight.set_data(Tensor(weight))
    images = rng.normal(size=(2, height, height + 1, 2)).astype(np.float32)

    def loss(x):
        return (conv(x) ** 2).sum()

    params = ms.ParameterTuple([conv.weight])
    value, (dx, (dw,)) = ms.jit(ms.value_and_grad(loss, 0, params))(Tensor(images))
    x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    w = torch.tensor(weight, requires_grad=True)
    out = torch.nn.functional.conv2d(x, w, stride=stride, padding=kernel // 2)
    (out**2).sum().backward()
    np.testing.assert_allclose(float(value.asnumpy()), (out**2).sum().item(), rtol=1e-5)
    theirs = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(dx.asnumpy(), theirs, atol=1e-5 * abs(theirs).max())
    theirs = w.grad.numpy()
    np.testing.assert_allclose(dw.asnumpy(), theirs, atol=1e-5 * abs(theirs).max())


def make_step(network):
    from mindformers_vit.engine.train_step import TrainStep, training_forward
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.ema import Ema
    from mindformers_vit.optim.groups import parameter_rules

    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params}, weight_decay=0.05)
    ema = Ema([*params, *network.moving_statistics()], 0.5)
    return TrainStep(training_forward(network, drop_path=True), AdamW(params, rules), ema=ema)


def test_a_resumed_run_goes_on_to_the_bit():
    """... with the batch norms' statistics and their averages."""
    rng = np.random.default_rng(0)
    config = LVViTConfig(**LVVIT_TINY, stem_width=8, drop_path_rate=0.2)

    def batch():
        return {
            "image": rng.normal(size=(4, 3, 64, 64)).astype(np.float32),
            "target": np.eye(10, dtype=np.float32)[:4],
            "mix_box": np.array([[1, 1, 3, 2]] * 4, np.int32),
            "drop_noise": rng.random((4, 4), np.float32),
        }

    batches = [batch() for _ in range(3)]
    first = make_step(LVViTForImageClassification(config))
    for b in batches[:2]:
        first([b], 1e-3)
    saved, state = first.tensors(), first.state()
    assert "ema.patch_embed.bn1.moving_mean" in saved
    statistic = "patch_embed.bn3.moving_variance"
    assert not np.array_equal(saved[statistic], np.ones(8, np.float32))
    assert not np.array_equal(saved[statistic], saved[f"ema.{statistic}"])

    second = make_step(LVViTForImageClassification(config, seed=1))
    second.load(saved, state)
    losses = [step([batches[2]], 1e-3)["loss"] for step in (first, second)]
    assert losses[0] == losses[1]
    ends = first.tensors(), second.tensors()
    for name in ends[0]:
        np.testing.assert_array_equal(ends[0][name], ends[1][name], err_msg=name)


def test_contract_of_timm(network_and_case):
    network, case = network_and_case
    features = network.forward_features(Tensor(case["images"]))
    assert features.shape == (2, 17, network.num_features)
    assert [tuple(x.shape) for x in network.forward_heads(features)] == [(2, 10), (2, 16, 10)]
    assert network.no_weight_decay() == {"pos_embed", "cls_token"}
    layers = ("patch_embed.conv1.weight", "blocks.1.norm1.gamma", "aux_head.weight")
    assert [network.layer_id(name) for name in layers] == [0, 2, 3]
