"""BEiT without MindSpore: settings, parameters, positions, recipes."""

from pathlib import Path

import numpy as np
import pytest

from mindformers_vit.config.loader import load_yaml
from mindformers_vit.config.strict import validate
from mindformers_vit.engine.build import peak_lr
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.beit import beit_params
from mindformers_vit.models.beit.beit_config import FAMILY, BeitConfig
from mindformers_vit.models.beit.beit_processor import BeitProcessor
from mindformers_vit.models.beit.relative_position import (
    relative_position_index,
    resize_table,
    square_grid,
)
from mindformers_vit.models.layers import parameters as p
from mindformers_vit.registry import find_model
from tests.models.conftest import GOLDENS, golden

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
SHARED = {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}
COUNTS = {  # with 1000 classes, with 21841, tensors
    "beit_base_p16_224": (86_530_984, 102_557_713, 199),
    "beit_base_p16_384": (86_744_104, 102_770_833, 199),
    "beit_large_p16_224": (304_430_568, 325_792_593, 391),
    "beit_large_p16_384": (304_998_888, 326_360_913, 391),
    "beit_large_p16_512": (305_674_728, 327_036_753, 391),
}


def specs_of(**changes):
    return beit_params.parameter_specs(BeitConfig(**changes))


def first_values(**changes):
    specs = specs_of(**changes)
    return {name: p.initial_value(name, spec, 0) for name, spec in specs.items()}


# ---- settings and parameters


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name):
    settings = FAMILY.variants[name]
    specs, big = specs_of(**settings), specs_of(**settings, num_labels=21841)
    assert (p.count(specs), p.count(big), len(specs)) == COUNTS[name]


def test_one_table_for_all_blocks_is_smaller():
    assert p.count(specs_of(**SHARED)) == 86_434_360
    both = specs_of(use_shared_relative_position_bias=True)
    assert p.count(both) == 86_530_984 + 732 * 12


def test_initial_values_follow_the_paper():
    values = first_values(num_hidden_layers=3, num_labels=50)
    assert abs(values["blocks.2.attn.qkv.weight"].std() / 0.02 - 1) < 0.01
    for last in ("attn.proj.weight", "mlp.fc2.weight"):
        for i in range(3):
            expected = 0.02 / np.sqrt(2 * (i + 1))
            assert abs(values[f"blocks.{i}.{last}"].std() / expected - 1) < 0.01
    assert abs(values["head.weight"].std() / 2e-5 - 1) < 0.02
    for zero in ("attn.relative_position_bias_table", "attn.q_bias", "attn.v_bias", "mlp.fc2.bias"):
        assert not values[f"blocks.1.{zero}"].any()
    assert np.all(values["blocks.1.gamma_2"] == np.float32(0.1))
    assert "blocks.0.gamma_1" not in specs_of(layer_scale_init_value=0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"use_relative_position_bias": False}, "are both False: the network could not tell"),
        ({"use_absolute_position_embeddings": True}, "use_absolute_position_embeddings: "),
        ({"layer_scale_init_value": -1}, "layer_scale_init_value: "),
        ({"num_labels": 2, "id2label": {0: "a"}}, "id2label names 1 classes; num_labels 2"),
        ({"layer_scale": 1}, "layer_scale: unknown key"),
    ],
)
def test_refusals_say_what_is_wrong(values, text):
    with pytest.raises(ConfigError, match=text):
        validate(BeitConfig, values, "")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("beit_base_patch16_224", "beit_base_p16_224"),
        ("beit_large_patch16_512.in22k_ft_in22k_in1k", "beit_large_p16_512"),
        ("beit_base_patch16_384_pt22k_ft22kto1k", "beit_base_p16_384"),
    ],
)
def test_names_of_timm_and_unilm(alias, name):
    assert find_model(alias)[1] == name


def test_a_name_of_other_weights_of_the_same_network_is_not_known():
    with pytest.raises(ConfigError, match="beit_large_patch16_224_pt22k_ft1k"):
        find_model("beit_large_patch16_224_pt22k_ft1k")


def test_processor_has_mean_and_deviation_one_half():
    for size, resize in {224: 256, 384: 384, 512: 512}.items():
        inner = BeitProcessor.for_network(BeitConfig(image_size=size)).image_processor
        assert (inner.size, inner.resize_to) == (size, resize)
    pixels = BeitProcessor()(GOLDENS / "preprocess" / "image0.jpg")
    expected = golden("preprocess")["image0/half_256_224"]
    np.testing.assert_allclose(pixels[0, :, ::4, ::4], expected, rtol=0, atol=1e-5)


# ---- relative positions


def test_relative_position_index():
    index = relative_position_index((14, 14))
    known = {(0, 0): 731, (0, 1): 729, (1, 0): 730, (1, 1): 364, (1, 2): 363, (2, 1): 365}
    known |= {(1, 15): 337, (196, 1): 728, (1, 196): 0}
    assert {place: index[place] for place in known} == known
    assert index.sum() == 14_270_119
    expected = golden("beit_tiny")["relative_position_index"]
    np.testing.assert_array_equal(relative_position_index((4, 4)), expected)
    wide = relative_position_index((2, 3))
    assert set(wide.ravel()) == set(range(3 * 5 + 3))
    np.testing.assert_array_equal(wide[1:, 1:] + wide[1:, 1:].T, np.full((6, 6), 14))


def test_table_resize_golden():
    case = golden("beit_table_resize")
    side = int(case["dst_window"])
    resized = resize_table(case["table"], (side, side))
    np.testing.assert_allclose(resized, case["resized"], rtol=0, atol=1e-5)
    assert resized.dtype == np.float32


def test_table_resize_keeps_near_offsets_and_reaches_the_far_ones():
    """A table that is its own row offset stays odd, monotonic, and ends at the old ends."""
    rows = np.repeat(np.arange(-13.0, 14.0), 27)
    table = np.concatenate([rows, [7, 8, 9]]).astype(np.float32)[:, None]
    resized = resize_table(table, (24, 24))[:, 0]
    assert resized.shape == (2212,)
    np.testing.assert_array_equal(resized[-3:], [7, 8, 9])
    middle = resized[:-3].reshape(47, 47)[:, 23]
    np.testing.assert_allclose(middle[22:25], [-1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(middle[[0, -1]], [-13, 13], atol=1e-3)
    assert np.all(np.diff(middle) > 0)
    assert resize_table(table, (14, 20)).shape == (27 * 39 + 3, 1)


def test_tables_that_cannot_be_resized():
    with pytest.raises(CheckpointError, match="has 50 rows, not"):
        resize_table(np.zeros((50, 4), np.float32), (6, 6))
    with pytest.raises(CheckpointError, match="2x2 grid cannot be resized"):
        resize_table(np.zeros((12, 4), np.float32), (6, 6))
    assert (square_grid(732), square_grid(2212), square_grid(3972)) == (14, 24, 32)


# ---- recipes


@pytest.mark.parametrize(
    ("file", "batch", "lr", "epochs", "warmup", "decay", "drop", "weight_decay"),
    [
        ("base_p16_224_30ep", 512, 2e-5, 30, 5, 0.85, 0.1, 1e-8),
        ("base_p16_384_30ep", 512, 2e-5, 30, 5, 0.85, 0.1, 1e-8),
        ("large_p16_224_30ep", 512, 2e-5, 30, 5, 0.9, 0.4, 1e-8),
        ("large_p16_384_30ep", 512, 2e-5, 30, 5, 0.9, 0.4, 1e-8),
        ("large_p16_512_30ep", 512, 2e-5, 30, 5, 0.9, 0.4, 1e-8),
        ("base_p16_224_pt22k_100ep", 1024, 4e-3, 100, 20, 0.65, 0.1, 0.05),
        ("large_p16_224_pt22k_50ep", 1024, 1e-3, 50, 5, 0.75, 0.2, 0.05),
    ],
)
def test_recipe(file, batch, lr, epochs, warmup, decay, drop, weight_decay):
    plan = make_plan(load_yaml(ROOT / f"configs/beit/run_beit_{file}.yaml"))
    run, runner = plan.run, plan.run.runner_config
    assert runner.batch_size * runner.gradient_accumulation_steps == batch
    assert (peak_lr(plan), run.lr_schedule.lr_end) == (lr, 1e-6)
    assert (runner.epochs, run.lr_schedule.warmup_epochs) == (epochs, warmup)
    assert (run.layer_scale, run.layer_decay) == (True, decay)
    assert plan.network.drop_path_rate == drop
    assert run.optimizer.weight_decay == weight_decay
    assert (plan.mixup is not None) == ("pt22k" in file)
    assert plan.train_transforms.output_shape()[1:] == plan.network.image_hw
    assert plan.processor.mean == (0.5, 0.5, 0.5)
