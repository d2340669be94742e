"""BEiT's files: conversion, loading by rule, and the reference's numbers that come out."""

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.beit.beit_loading import loading_rules
from mindformers_vit.models.beit.beit_params import SHARED_TABLE, block_table, parameter_specs
from mindformers_vit.models.beit.convert_weight import CONVERTER, convert_weight
from tests.models.conftest import GOLDENS, golden

TINY = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "num_labels": 10,
}
SHARED = {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}
INDEX_0 = "blocks.0.attn.relative_position_index"
TABLES = (block_table(0), block_table(1))

# ---- conversion


@pytest.fixture(scope="module")
def torch_files(tmp_path_factory):
    """name -> a file in one of the published layouts, made from the goldens."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("torch")

    def load(name):
        return torch.load(GOLDENS / name / "weights.pth", weights_only=True)["model"]

    def make(name, tensors, key=None):
        path = folder / f"{name}.pth"
        torch.save({key: tensors, "epoch": 3} if key else tensors, path)
        return path

    own, shared = load("beit_tiny"), load("beit_tiny_shared_table")
    headless = {k: v for k, v in shared.items() if not k.startswith(("head.", "fc_norm."))}
    norm = {f"norm.{x}": torch.ones(48) for x in ("weight", "bias")}
    lm_head = {"lm_head.weight": torch.ones(64, 48), "lm_head.bias": torch.ones(64)}
    return {
        "module": make("module", own, "module"),
        "raw": make("raw", own),
        "no_index": make("no_index", {k: v for k, v in own.items() if "_index" not in k}),
        "pretrained": make(
            "pretrained",
            {**headless, **norm, **lm_head, "mask_token": torch.ones(1, 1, 48)},
            "model",
        ),
        "wrong_index": make("wrong_index", own | {INDEX_0: own[INDEX_0].T.clone()}),
        "extra": make("extra", own | {"blocks.0.attn.k_bias": torch.ones(48)}),
    }


@pytest.mark.fast
@pytest.mark.parametrize("name", ["beit_tiny", "beit_tiny_shared_table"])
def test_there_and_back_with_the_index(name, tmp_path):
    torch = pytest.importorskip("torch")
    source, ours, theirs = (
        GOLDENS / name / "weights.pth",
        tmp_path / "a.safetensors",
        tmp_path / "b.pth",
    )
    assert convert_weight(source, ours).layout == "BEiT, mean pooling"
    assert not any("index" in tensor for tensor in read_weights(ours))
    report = str(convert_weight(theirs, ours, reversed=True))
    made = 2 if name == "beit_tiny" else 1
    assert f".relative_position_index ({made})\nfile      " in report
    assert f" mapped, 0 dropped, {made} made\n" in report
    original, again = (torch.load(x, weights_only=True)["model"] for x in (source, theirs))
    assert original.keys() == again.keys()
    for tensor, value in original.items():
        assert value.dtype == again[tensor].dtype
        assert torch.equal(value, again[tensor]), tensor


@pytest.mark.fast
@pytest.mark.parametrize("name", ["module", "raw", "no_index"])
def test_layouts_of_the_same_network(name, torch_files, tmp_path):
    ours = tmp_path / "a.safetensors"
    assert convert_weight(torch_files[name], ours).layout == "BEiT, mean pooling"
    arrays = read_weights(ours)
    assert arrays.keys() == parameter_specs(BeitConfig(**TINY)).keys()
    assert CONVERTER.configure({k: v.shape for k, v in arrays.items()}, {}) == BeitConfig(**TINY)


@pytest.mark.fast
def test_a_pretraining_file_leaves_what_no_network_here_has(torch_files, tmp_path):
    ours = tmp_path / "a.safetensors"
    report = convert_weight(torch_files["pretrained"], ours)
    assert report.layout == "BEiT, pretrained"
    lines = [line for line in str(report).splitlines() if line[2:7] in ("dropp", "new  ", "extra")]
    assert lines == [
        "  dropped rel_pos_bias.relative_position_index (1)",
        "  dropped mask_token (1)",
        "  dropped lm_head.weight (1)",
        "  dropped lm_head.bias (1)",
        "  new     fc_norm.* (2)",
        "  new     head.* (2)",
        "  extra   norm.beta (1)",
        "  extra   norm.gamma (1)",
    ]
    names = set(read_weights(ours))
    assert {SHARED_TABLE, "norm.gamma", "blocks.1.gamma_2"} <= names
    assert not names & {"mask_token", "lm_head.weight", "head.weight", TABLES[0]}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrong_index", "~ blocks.0.attn.relative_position_index: not the constant"),
        ("extra", r"\+ blocks.0.attn.k_bias \(48,\): not in the table"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(name, text, torch_files, tmp_path):
    ours = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match=text):
        convert_weight(torch_files[name], ours)
    assert not ours.exists()


@pytest.mark.fast
def test_a_file_of_another_family_is_refused(tmp_path):
    ours = tmp_path / "a.safetensors"
    for name in ("mae_pretrain_tiny", "vit_mean_pool_tiny"):
        with pytest.raises(CheckpointError, match=f"another family .{name.partition('_')[0]}."):
            convert_weight(GOLDENS / name / "weights.pth", ours)
    assert not ours.exists()


# ---- loading


@pytest.mark.fast
def test_loading_without_a_head_needs_new_parts():
    with pytest.raises(CheckpointError, match="no classification head"):
        loading_rules(BeitConfig(**TINY), {SHARED_TABLE: np.zeros((52, 4))}, new_parts=False)


@pytest.fixture(scope="module")
def load(tmp_path_factory, torch_files):
    """(file, changes of the settings) -> network, report."""
    from mindformers_vit.models.beit.beit import BeitForImageClassification
    from mindformers_vit.models.model_io import load_weights

    folder = tmp_path_factory.mktemp("converted")

    def make(name, *, new_parts=False, **changes):
        source = torch_files.get(name, GOLDENS / name / "weights.pth")
        ours = folder / f"{name}.safetensors"
        convert_weight(source, ours)
        network = BeitForImageClassification(BeitConfig(**TINY | changes))
        return network, load_weights(network, ours, new_parts=new_parts)

    return make


@pytest.mark.parametrize(
    ("name", "changes"),
    [("beit_tiny", {}), ("beit_tiny_shared_table", SHARED), ("beit_tiny_shared_table", {})],
    ids=["per_block", "shared", "shared_copied_into_blocks"],
)
def test_golden(name, changes, load):
    import mindspore as ms

    network, report = load(name, **changes)
    copied = name == "beit_tiny_shared_table" and not changes
    assert (report.new, report.unused) == ((), (SHARED_TABLE,) if copied else ())
    case = golden(name)
    for function in (network, ms.jit(network)):
        logits = function(ms.Tensor(case["images"])).asnumpy()
        np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_finetuning_at_another_size_with_other_classes(load):
    network, report = load("beit_tiny", image_size=48, num_labels=22, new_parts=True)
    assert report.new == report.unused == ("head.bias", "head.weight")
    assert report.resized == TABLES
    assert network.state_arrays()[TABLES[0]].shape == (11 * 11 + 3, 4)


def test_finetuning_from_pretraining(load):
    network, report = load("pretrained", new_parts=True)
    new = ("fc_norm.beta", "fc_norm.gamma", "head.bias", "head.weight")
    assert report.new == new
    assert report.unused == ("norm.beta", "norm.gamma", SHARED_TABLE)
    arrays = network.state_arrays()
    np.testing.assert_array_equal(arrays[TABLES[0]], arrays[TABLES[1]])
    _, report = load("pretrained", new_parts=True, use_mean_pooling=False, **SHARED)
    assert (report.new, report.unused) == (new[2:], ())


def test_gradients_are_those_of_plain_operators():
    """The hand-written gradients (bias of positions, layer scale) against MindSpore's own."""
    import mindspore as ms

    from mindformers_vit.models.layers.attention import BiasedDotProduct, CpuBiasedDotProduct
    from mindformers_vit.models.layers.layer_scale import ScaleChannels
    from tests.models.test_layers import gradients, normal

    class First(ms.nn.Cell):
        def __init__(self, core):
            super().__init__()
            self.core = core

        def construct(self, q, k, v, bias):
            return self.core(q, k, v, bias)[0]

    inputs = [*(normal(2, 3, 5, 4) for _ in range(3)), normal(3, 5, 5)]
    weight = ms.Tensor(normal(2, 3, 5, 4))
    mine, plain = (
        gradients(First(core), inputs, weight)[0]
        for core in (CpuBiasedDotProduct(), BiasedDotProduct())
    )
    for first, second in zip(mine, plain, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    x, gamma, weight = normal(6, 4), normal(4), normal(6, 4)
    dx, dgamma = gradients(ScaleChannels(), [x, gamma], ms.Tensor(weight))[0]
    np.testing.assert_allclose(dx, weight * gamma, atol=1e-6)
    np.testing.assert_allclose(dgamma, (weight * x).sum(0), atol=1e-5)


def test_drop_path_and_contract_of_timm(load):
    import mindspore as ms

    network, _ = load("beit_tiny", drop_path_rate=0.5)
    images = ms.Tensor(golden("beit_tiny")["images"])
    noise = np.zeros((2, 4), np.float32)
    noise[1] = 0.999
    features = network.forward_features(images, ms.Tensor(noise)).asnumpy()
    plain = network.forward_features(images).asnumpy()
    assert features.shape == plain.shape == (2, 17, 48)
    assert not np.allclose(features[0], plain[0])
    assert not np.allclose(features[1], plain[1])  # kept, and scaled by 1 / 0.5
    pooled = network.forward_head(ms.Tensor(plain), pre_logits=True)
    assert pooled.shape == (2, network.num_features)
    assert network.no_weight_decay() == {"cls_token"}
    layers = {network.layer_id(n) for n in (TABLES[0], "blocks.0.gamma_1", "blocks.0.attn.q_bias")}
    assert (layers, network.layer_id(SHARED_TABLE)) == ({1}, 3)
