"""Parameters as data: the published counts, names, and initial values from (seed, name)."""

import numpy as np
import pytest

from mindformers_vit.models.layers import parameters as p
from mindformers_vit.models.mae import mae_params
from mindformers_vit.models.mae.mae_config import FAMILY as MAE
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.vit import vit_params
from mindformers_vit.models.vit.vit_config import FAMILY as VIT
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.models.conftest import MAE_TINY

MAE_COUNTS = {  # all, encoder alone, trained, tensors
    "mae_vit_base_p16": (111_907_840, 85_798_656, 111_655_680, 254),
    "mae_vit_large_p16": (329_541_888, 303_301_632, 329_239_296, 398),
    "mae_vit_huge_p14": (657_074_508, 630_764_800, 656_613_964, 494),
}
VIT_COUNTS = {
    "vit_base_p16": (86_567_656, 152),
    "vit_large_p16": (304_326_632, 296),
    "vit_huge_p14": (632_045_800, 392),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", MAE_COUNTS)
def test_mae_counts_are_the_published_ones(name):
    config = ViTMAEConfig(**MAE.variants[name])
    specs = mae_params.parameter_specs(config)
    encoder = mae_params.encoder_specs(config)
    found = (p.count(specs), p.count(encoder), p.count(specs, trainable_only=True), len(specs))
    assert found == MAE_COUNTS[name]


@pytest.mark.fast
@pytest.mark.parametrize("mean_pooling", [True, False])
@pytest.mark.parametrize("name", VIT_COUNTS)
def test_vit_counts_are_the_published_ones(name, mean_pooling):
    config = ViTConfig(**VIT.variants[name], use_mean_pooling=mean_pooling)
    specs = vit_params.parameter_specs(config)
    assert (p.count(specs), len(specs)) == VIT_COUNTS[name]


@pytest.mark.fast
def test_vit_huge_at_448_has_more_positions():
    config = ViTConfig(**VIT.variants["vit_huge_p14"], image_size=448)
    assert p.count(vit_params.parameter_specs(config)) == 633_028_840


@pytest.mark.fast
def test_initial_values_follow_the_papers():
    specs = mae_params.parameter_specs(ViTMAEConfig(**MAE_TINY))
    values = {name: p.initial_value(name, spec, 0) for name, spec in specs.items()}
    assert all(value.dtype == np.float32 for value in values.values())
    qkv = values["blocks.0.attn.qkv.weight"]  # (144, 48)
    bound = np.sqrt(6 / (144 + 48))
    assert 0.95 * bound < np.abs(qkv).max() <= bound
    patch = values["patch_embed.proj.weight"]  # as (48, 192)
    bound = np.sqrt(6 / (48 + 192))
    assert 0.95 * bound < np.abs(patch).max() <= bound
    assert 0 < np.abs(values["patch_embed.proj.bias"]).max() <= 1 / np.sqrt(192)
    assert abs(values["mask_token"].std() - 0.02) < 0.01
    assert not values["blocks.1.mlp.fc1.bias"].any()
    assert np.all(values["norm.gamma"] == 1)
    assert not values["norm.beta"].any()
    assert np.isclose(values["pos_embed"][0, 2, 0], np.sin(1))  # row 0, column 1


@pytest.mark.fast
def test_vit_starts_from_normal_weights():
    specs = vit_params.parameter_specs(ViTConfig(num_hidden_layers=1))
    for name in ("pos_embed", "blocks.0.mlp.fc1.weight", "head.weight"):
        assert abs(p.initial_value(name, specs[name], 0).std() / 0.02 - 1) < 0.01, name
    patch = p.initial_value("patch_embed.proj.weight", specs["patch_embed.proj.weight"], 0)
    assert 0.99 / np.sqrt(768) < np.abs(patch).max() <= 1 / np.sqrt(768)


@pytest.mark.fast
def test_an_initial_value_is_a_function_of_seed_and_name():
    spec = p.ParamSpec((3, 4), p.normal(0.02))
    first = p.initial_value("head.weight", spec, 0)
    np.testing.assert_array_equal(first, p.initial_value("head.weight", spec, 0))
    assert not np.array_equal(first, p.initial_value("head.weight", spec, 1))
    assert not np.array_equal(first, p.initial_value("head2.weight", spec, 0))


def test_building_the_base_network_gives_the_described_parameters():
    from mindformers_vit.models.mae.mae import ViTMAEForPreTraining

    network = ViTMAEForPreTraining(ViTMAEConfig())
    found = {q.name: tuple(q.shape) for q in network.get_parameters()}
    assert found == p.shapes_of(mae_params.parameter_specs(network.config))
    assert sum(np.prod(shape) for shape in found.values()) == 111_907_840


def test_seed_zero_is_a_seed():
    from mindformers_vit.models.mae.mae import ViTMAEForPreTraining

    config = ViTMAEConfig(**MAE_TINY)
    first, second, other = (ViTMAEForPreTraining(config, seed=s).state_arrays() for s in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["mask_token"], other["mask_token"])
