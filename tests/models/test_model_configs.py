"""Settings: defaults, names, and the text of every refusal."""

import pytest

from mindformers_vit.config.strict import validate
from mindformers_vit.errors import ConfigError
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.registry import families, find_arch, find_model
from tests.models.conftest import MAE_TINY, VIT_TINY

pytestmark = pytest.mark.fast

ALIASES = {
    "mae_vit_base_patch16": "mae_vit_base_p16",
    "mae_vit_huge_patch14": "mae_vit_huge_p14",
    "vit_base_patch16_224": "vit_base_p16",
    "vit_large_patch16": "vit_large_p16",
    "mindspore/vit_base_p16": "vit_base_p16",
}
REFUSED = [
    (ViTConfig, {"image_size": 225}, "image_size height 225 is not divisible by patch_size 16"),
    (ViTConfig, {"image_size": [224, 230]}, "image_size width 230 is not divisible by patch_size"),
    (ViTConfig, {"hidden_size": 770}, "hidden_size 770 is not divisible by num_attention_heads 12"),
    (ViTConfig, {"hidden_dropout_prob": 0.1}, "hidden_dropout_prob: only 0 is offered"),
    (
        ViTConfig,
        {"attention_probs_dropout_prob": 0.1},
        "attention_probs_dropout_prob: only 0 is offered",
    ),
    (ViTConfig, {"hidden_act": "relu"}, "hidden_act: input should be 'gelu', given 'relu'"),
    (ViTConfig, {"post_layernorm_residual": True}, "post_layernorm_residual: "),
    (ViTConfig, {"drop_path_rate": 1.0}, "drop_path_rate: "),
    (ViTConfig, {"num_labels": 0}, "num_labels: "),
    (ViTConfig, {"layer_norm_eps": 0}, "layer_norm_eps: "),
    (ViTConfig, {"loss_type": "L1Loss"}, "loss_type: "),
    (ViTConfig, {"compute_dtype": "int8"}, "compute_dtype: "),
    (ViTConfig, {"hiden_size": 3}, "hiden_size: unknown key (did you mean 'hidden_size'?)"),
    (
        ViTConfig,
        {"num_labels": 3, "id2label": {0: "a", 1: "b"}},
        "id2label names 2 classes; num_labels 3 needs exactly the keys 0 to 2",
    ),
    (ViTMAEConfig, {"mask_ratio": 1.0}, "mask_ratio: "),
    (
        ViTMAEConfig,
        {"mask_ratio": 0.999},
        "mask_ratio 0.999 of 196 patches leaves 0 visible; at least one must be visible",
    ),
    (
        ViTMAEConfig,
        {"decoder_hidden_size": 500},
        "decoder_hidden_size 500 is not divisible by decoder_num_attention_heads 16",
    ),
    (
        ViTMAEConfig,
        {"hidden_size": 30, "num_attention_heads": 3},
        "hidden_size 30 is not divisible by the sin-cos embedding's 4",
    ),
]


@pytest.mark.parametrize(("config_class", "values", "text"), REFUSED)
def test_refusals_say_what_is_wrong(config_class, values, text):
    with pytest.raises(ConfigError) as error:
        validate(config_class, values, "")
    assert text in str(error.value)


def test_several_problems_come_together():
    with pytest.raises(ConfigError) as error:
        validate(ViTConfig, {"image_size": [225, 230], "hidden_size": 7}, "model.model_config")
    assert str(error.value) == (
        "model.model_config: image_size height 225 is not divisible by patch_size 16; "
        "image_size width 230 is not divisible by patch_size 16; "
        "hidden_size 7 is not divisible by num_attention_heads 12"
    )


def test_every_name_makes_its_config():
    names = [(family, name) for family in families() for name in family.variants]
    assert len(names) >= 8
    for family, name in names:
        config = validate(family.config_class, family.variants[name], name)
        assert validate(family.config_class, config.settings(), name) == config


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_lead_to_their_names(alias):
    assert find_model(alias)[1] == ALIASES[alias]


def test_architectures_are_found():
    assert find_arch("ViTMAEForPreTraining").name == "mae"
    assert find_arch("ViTForImageClassification").name == "vit"


def test_derived_numbers():
    config = ViTMAEConfig()
    assert (config.grid, config.num_patches, config.num_visible) == ((14, 14), 196, 49)
    assert config.patch_pixels == 768
    assert ViTMAEConfig(**MAE_TINY).num_visible == 4
    wide = ViTConfig(**VIT_TINY | {"image_size": [16, 32]})
    assert (wide.image_hw, wide.grid, wide.num_patches) == ((16, 32), (2, 4), 8)
    assert wide.settings()["image_size"] == [16, 32]


def test_labels_from_a_yaml_have_integer_keys():
    config = ViTConfig(num_labels=2, id2label={"0": "cat", "1": "dog"})
    assert config.id2label == {0: "cat", 1: "dog"}
