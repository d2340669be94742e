"""Fine-tuning from converted files of other networks: the report names every tensor, exactly."""

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.engine.weights import read
from mindformers_vit.models.beit import convert_weight as beit
from mindformers_vit.models.beit.beit import BeitForImageClassification
from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.lvvit.lvvit import LVViTForImageClassification
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.mae.mae import ViTMAEForPreTraining
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.model_io import fit_weights
from mindformers_vit.models.smlpnet import convert_weight as smlpnet
from mindformers_vit.models.smlpnet.smlpnet import SMLPNetForImageClassification
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig
from mindformers_vit.models.vit.vit import ViTForImageClassification
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.models.conftest import GOLDENS, LVVIT_TINY, MAE_TINY, UNTOLD, VIT_TINY

BEIT = VIT_TINY | {"num_hidden_layers": 2}
SHALLOW = VIT_TINY | {"num_hidden_layers": 2}
DECODER = (
    "decoder_blocks.*.attn.proj.bias x2, decoder_blocks.*.attn.proj.weight x2, "
    "decoder_blocks.*.attn.qkv.bias x2, decoder_blocks.*.attn.qkv.weight x2, "
    "decoder_blocks.*.mlp.fc1.bias x2, decoder_blocks.*.mlp.fc1.weight x2, "
    "decoder_blocks.*.mlp.fc2.bias x2, decoder_blocks.*.mlp.fc2.weight x2, "
    "decoder_blocks.*.norm1.beta x2, decoder_blocks.*.norm1.gamma x2, "
    "decoder_blocks.*.norm2.beta x2, decoder_blocks.*.norm2.gamma x2, decoder_embed.bias, "
    "decoder_embed.weight, decoder_norm.beta, decoder_norm.gamma, decoder_pos_embed, "
    "decoder_pred.bias, decoder_pred.weight, mask_token"
)
HEAD, FC_NORM, NORM = (
    "head.bias, head.weight",
    "fc_norm.beta, fc_norm.gamma",
    "norm.beta, norm.gamma",
)
TABLES = "blocks.*.attn.relative_position_bias_table x2"
CASES = {
    "mae encoder -> classifier, mean pooling": (
        ("mae", "mae_pretrain_tiny/encoder_only"),
        (ViTForImageClassification, ViTConfig(**SHALLOW)),
        f"28 tensors loaded, 4 new ({FC_NORM}, {HEAD}), 2 unused ({NORM})",
    ),
    "mae encoder -> classifier, class token": (
        ("mae", "mae_pretrain_tiny/encoder_only"),
        (ViTForImageClassification, ViTConfig(**SHALLOW, use_mean_pooling=False)),
        f"30 tensors loaded, 2 new ({HEAD})",
    ),
    "mae -> classifier, class token, larger image": (
        ("mae", "mae_pretrain_tiny/weights"),
        (
            ViTForImageClassification,
            ViTConfig(**SHALLOW | {"image_size": 48}, use_mean_pooling=False),
        ),
        f"29 tensors loaded, 1 resized (pos_embed), 2 new ({HEAD}), 32 unused ({DECODER})",
    ),
    "mae encoder -> mae": (
        ("mae", "mae_pretrain_tiny/encoder_only"),
        (ViTMAEForPreTraining, ViTMAEConfig(**MAE_TINY)),
        f"30 tensors loaded, 32 new ({DECODER})",
    ),
    "beit, larger image": (
        ("beit", "beit_tiny/weights"),
        (BeitForImageClassification, BeitConfig(**BEIT | {"image_size": 48})),
        f"37 tensors loaded, 2 resized ({TABLES})",
    ),
    "beit, shared table -> a table in every block": (
        ("beit", "beit_tiny_shared_table/weights"),
        (BeitForImageClassification, BeitConfig(**BEIT)),
        "39 tensors loaded, 1 unused (rel_pos_bias.relative_position_bias_table)",
    ),
    "beit, other classes": (
        ("beit", "beit_tiny/weights"),
        (BeitForImageClassification, BeitConfig(**BEIT | {"num_labels": 3})),
        f"37 tensors loaded, 2 new ({HEAD}), 2 unused ({HEAD})",
    ),
    "vit, other classes": (
        ("vit", "vit_mean_pool_tiny/weights"),
        (ViTForImageClassification, ViTConfig(**VIT_TINY | {"num_labels": 3})),
        f"42 tensors loaded, 2 new ({HEAD}), 2 unused ({HEAD})",
    ),
    "lvvit, other classes, larger image": (
        ("lvvit", "lvvit_tiny_skip2/weights"),
        (
            LVViTForImageClassification,
            LVViTConfig(**LVVIT_TINY | {"num_labels": 3, "image_size": 96}),
        ),
        "42 tensors loaded, 1 resized (pos_embed), "
        f"4 new (aux_head.bias, aux_head.weight, {HEAD}), "
        f"4 unused (aux_head.bias, aux_head.weight, {HEAD})",
    ),
    "smlpnet, other classes": (
        ("smlpnet", "smlpnet_tiny/weights"),
        (
            SMLPNetForImageClassification,
            SMLPNetConfig(image_size=64, hidden_size=16, depths=(1, 2, 2, 1), num_labels=3),
        ),
        "128 tensors loaded, 2 new (mlp_head.0.bias, mlp_head.0.weight), "
        "2 unused (mlp_head.0.bias, mlp_head.0.weight)",
    ),
}


@pytest.fixture(scope="module")
def converted_file(converted, tmp_path_factory):
    """(family, golden) -> a converted file of it."""
    folder = tmp_path_factory.mktemp("files")
    others = {"beit": beit, "smlpnet": smlpnet}

    def make(family, name):
        if family not in others:
            return converted(*name.split("/"))
        target = folder / f"{name.replace('/', '_')}.safetensors"
        others[family].convert_weight(GOLDENS / f"{name}.pth", target)
        return target

    return make


@pytest.mark.parametrize("case", CASES)
def test_the_report_names_everything(case, converted_file):
    (family, name), (model_class, config), text = CASES[case]
    loaded = read_weights(converted_file(family, name))
    arrays, report, _ = fit_weights(model_class, config, loaded, "", new_parts=True)
    assert str(report) == text
    specs = model_class.parameter_specs(config)
    assert arrays.keys() | set(report.new) == specs.keys()
    assert all(array.shape == specs[n].shape for n, array in arrays.items())


def test_a_converted_file_brings_its_settings(tmp_path):
    """What `--load_checkpoint` compares with the run's own settings."""
    target = tmp_path / "a.safetensors"
    mae.convert_weight(
        GOLDENS / "mae_pretrain_tiny" / "weights.pth", target, settings=UNTOLD["mae"]
    )
    for given in (target, tmp_path):
        weights = read(str(given))
        assert weights.settings["decoder_num_attention_heads"] == 4
        assert np.array_equal(weights.tensors["norm.gamma"], read_weights(target)["norm.gamma"])
