"""sMLPNet's files: both directions, and nothing is written when something does not fit."""

import re

import numpy as np
import pytest
import torch

from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.smlpnet.convert_weight import convert_weight
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig
from mindformers_vit.models.smlpnet.smlpnet_loading import loading_rules
from tests.models.conftest import GOLDENS
from tests.models.smlpnet_reference import Network

WEIGHTS = GOLDENS / "smlpnet_tiny" / "weights.pth"
SETTINGS = {"image_size": 64, "hidden_size": 16, "depths": (1, 2, 2, 1), "num_labels": 10}
CONFIG = SMLPNetConfig(**SETTINGS)
pytestmark = pytest.mark.fast


def test_a_file_of_another_image_size_is_explained(tmp_path):
    convert_weight(WEIGHTS, tmp_path / "a.safetensors")
    config = SMLPNetConfig(**SETTINGS | {"image_size": 96})
    with pytest.raises(CheckpointError, match=r"for images of 64x64, the network takes 96x96"):
        loading_rules(config, read_weights(tmp_path / "a.safetensors"), new_parts=True)


@pytest.mark.parametrize("raw", [False, True])
def test_there_and_back(raw, tmp_path):
    """Every tensor to the bit, but for the count of batches; PyTorch loads the result strictly."""
    original = torch.load(WEIGHTS, weights_only=True)["model"]
    torch.save(original if raw else {"model": original, "epoch": 299}, tmp_path / "a.pth")
    convert_weight(tmp_path / "a.pth", tmp_path / "a.safetensors")
    convert_weight(tmp_path / "b.pth", tmp_path / "a.safetensors", reversed=True)
    again = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    kept = {n: t for n, t in original.items() if not n.endswith(".num_batches_tracked")}
    assert again.keys() == kept.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    Network(CONFIG).load_state_dict(again, strict=True)


@pytest.mark.parametrize(
    ("name", "tensor", "text"),
    [
        ("token_mix.0.1.fuse.bias", torch.ones(16), "+ token_mix.0.1.fuse.bias (16,)"),
        ("batch_norm.running_mean", None, "- batch_norm.moving_mean (128,)"),
        ("mlp_head.0.weight", torch.ones(10, 64), "~ mlp_head.0.weight: (10, 64) found"),
        (
            "token_mix.5.1.fuse.weight",
            None,
            "ImageClassification has these settings: depths.3",
        ),
        ("to_patch_embedding.0.0.weight", None, "which every such network has"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(name, tensor, text, tmp_path):
    model = torch.load(WEIGHTS, weights_only=True)["model"]
    model = {n: t for n, t in model.items() if n != name} | (
        {name: tensor} if tensor is not None else {}
    )
    torch.save({"model": model}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=re.escape(text)):
        convert_weight(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_a_file_of_another_family_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"another family .vit."):
        convert_weight(GOLDENS / "vit_mean_pool_tiny" / "weights.pth", tmp_path / "a.safetensors")
    arrays = {"head.weight": np.ones((2, 2), np.float32)}
    write_weights(tmp_path / "b.safetensors", arrays)
    with pytest.raises(CheckpointError, match="not in the table"):
        convert_weight(tmp_path / "b.pth", tmp_path / "b.safetensors", reversed=True)
