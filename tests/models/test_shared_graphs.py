"""Blocks that differ in more than their weights are not compiled as one."""

from functools import cache

import numpy as np
import pytest

from mindformers_vit import compat
from mindformers_vit.engine.train_step import ClassifyForward, TrainStep
from mindformers_vit.models.auto import AutoModel
from mindformers_vit.models.shared_graphs import shared_graphs
from mindformers_vit.models.vit.vit import ViTForImageClassification
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.groups import parameter_rules
from tests.engine import lab
from tests.models.conftest import VIT_TINY


@pytest.fixture(autouse=True)
def _graph_mode():
    with lab.own_process():
        compat.set_device("CPU")
        yield


def marked(network) -> int:
    return sum(hasattr(cell, "cell_init_args") for _, cell in network.cells_and_names())


def nothing(cell, inputs, out):
    return out * 0


def hook(network):
    network.blocks[1].attn.register_forward_hook(nothing)


def scale(network):
    network.blocks[1].attn.scale = 0.5
    network.blocks[1].attn.has_kernel = False


def order(network):
    norm = network.blocks[1].norm1
    gamma = norm.gamma
    del norm.gamma
    gamma.set_data(gamma * 2)
    norm.gamma = gamma


@cache
def first_loss(change=None, *, share: bool) -> float:
    network = ViTForImageClassification(ViTConfig(**VIT_TINY), seed=3)
    if change:
        change(network)
    if not share:
        network.blocks.alike = False
    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params}, weight_decay=0.0)
    step = TrainStep(ClassifyForward(network, drop_path=False), AdamW(params, rules))
    rng, config = np.random.default_rng(0), network.config
    batch = {
        "image": rng.normal(size=(2, 3, *config.image_hw)).astype(np.float32) * 3,
        "target": np.eye(config.num_labels, dtype=np.float32)[:2],
    }
    loss = step([batch], 1e-3)["loss"]
    assert marked(network) == 0
    return float(loss)


@pytest.mark.parametrize(
    "name", ["mae_vit_tiny_p8", "vit_tiny_p8", "beit_tiny_p8", "lvvit_tiny_p8"]
)
def test_the_blocks_of_every_trunk_are_alike(name):
    network = AutoModel.from_pretrained(name, download_checkpoint=False)
    with shared_graphs(network):
        assert marked(network) >= len(network.blocks)
    assert marked(network) == 0


@pytest.mark.parametrize("change", [hook, scale, order])
def test_a_changed_block_computes_what_it_is(change):
    network = ViTForImageClassification(ViTConfig(**VIT_TINY))
    change(network)
    with shared_graphs(network):
        assert marked(network) == 0
    assert first_loss(change, share=True) == first_loss(change, share=False)


def test_sharing_changes_no_bit():
    assert first_loss(share=True) == first_loss(share=False) != first_loss(hook, share=True)
