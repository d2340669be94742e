"""BEiT weights from PyTorch and back.

    python mindformers_vit/models/beit/convert_weight.py \
        --torch_path beit_base_patch16_224_pt22k_ft22kto1k.pth \
        --mindspore_path beit_base_p16_224.ckpt

Reads the files of https://github.com/microsoft/unilm (beit and beit2, MIT licence) and timm's,
which have the same names: fine-tuned, with one table a block or one for all blocks, and pretrained
(mask token and token head are left out: no network here has them). Besides, transformers'
BeitForImageClassification and BeitForMaskedImageModeling.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import hugging_face as hf
from mindformers_vit.models.beit.beit_config import FAMILY, BeitConfig
from mindformers_vit.models.beit.beit_params import (
    SHARED_TABLE,
    TABLE,
    encoder_specs,
    parameter_specs,
)
from mindformers_vit.models.beit.relative_position import relative_position_index, square_grid
from mindformers_vit.models.conversion_table import (
    Array,
    Layout,
    Row,
    Shapes,
    dropped,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.convert import Converter
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.infer_config import block_settings, shape_of
from mindformers_vit.models.layers.parameters import ParamSpecs, norm

BLOCK, INDEX = "blocks.{i}", "relative_position_index"
ENCODER = [
    *same("cls_token", SHARED_TABLE, f"{BLOCK}.attn.{TABLE}"),
    *linear_rows("patch_embed.proj"),
    *norm_rows(f"{BLOCK}.norm1"),
    *norm_rows(f"{BLOCK}.norm2"),
    *same(f"{BLOCK}.attn.q_bias", f"{BLOCK}.attn.v_bias", f"{BLOCK}.attn.qkv.weight"),
    *linear_rows(f"{BLOCK}.attn.proj"),
    *linear_rows(f"{BLOCK}.mlp.fc1"),
    *linear_rows(f"{BLOCK}.mlp.fc2"),
    *same(f"{BLOCK}.gamma_1", f"{BLOCK}.gamma_2"),
    *dropped(f"rel_pos_bias.{INDEX}", f"{BLOCK}.attn.{INDEX}"),
]
HEAD = linear_rows("head")
LEFT_OUT = dropped("mask_token", "lm_head.weight", "lm_head.bias")

LAYER = "beit.encoder.layer.{i}"
SHARED_BIAS = "beit.encoder.relative_position_bias"
BLOCK_BIAS = f"{LAYER}.attention.attention.relative_position_bias"
HF_ENCODER = [
    *hf.embedding_rows("beit.embeddings"),
    Row(f"{SHARED_BIAS}.{TABLE}", SHARED_TABLE),
    Row(f"{BLOCK_BIAS}.{TABLE}", f"{BLOCK}.attn.{TABLE}"),
    *hf.block_rows(LAYER, BLOCK),
    Row(f"{LAYER}.attention.attention.query.bias", f"{BLOCK}.attn.q_bias"),
    Row(f"{LAYER}.attention.attention.value.bias", f"{BLOCK}.attn.v_bias"),
    *(Row(f"{LAYER}.lambda_{n}", f"{BLOCK}.gamma_{n}") for n in (1, 2)),
    *dropped("beit.embeddings.mask_token", f"{SHARED_BIAS}.{INDEX}", f"{BLOCK_BIAS}.{INDEX}"),
]
HF_CLASSIFIER = [
    *HF_ENCODER,
    *norm_rows("beit.pooler.layernorm", "fc_norm"),
    *norm_rows("beit.layernorm", "norm"),
    *linear_rows("classifier", "head"),
]
HF_PRETRAINED = [
    *HF_ENCODER,
    *norm_rows("layernorm", "norm"),
    *dropped("lm_head.weight", "lm_head.bias"),
]


def tell(shapes: Shapes) -> dict[str, Any]:
    """The settings that shapes tell.

    Raises:
        CheckpointError: these are not the shapes of a BEiT.
    """
    tables = [name for name in shapes if name.endswith(TABLE)]
    if not tables:
        raise CheckpointError(f"no '{TABLE}' is there, which every BEiT has")
    rows, heads = shape_of(shapes, tables[0], 2)
    settings = block_settings(shapes)
    settings |= {
        "image_size": square_grid(rows) * settings["patch_size"],
        "num_attention_heads": heads,
        "qkv_bias": "blocks.0.attn.q_bias" in shapes,
        "use_shared_relative_position_bias": SHARED_TABLE in shapes,
        "use_relative_position_bias": tables != [SHARED_TABLE],
        # a pretrained one is fine-tuned with mean pooling, whatever norm it ends with
        "use_mean_pooling": not {"norm.gamma", "head.weight"} <= shapes.keys(),
    }
    if "head.weight" in shapes:
        settings["num_labels"] = shape_of(shapes, "head.weight", 2)[0]
    if "blocks.0.gamma_1" not in shapes:
        settings["layer_scale_init_value"] = 0.0
    return settings


def _pretrained(config: BeitConfig) -> ParamSpecs:
    return {**encoder_specs(config), **norm("norm", config.hidden_size)}


def _constants(config: BeitConfig, shapes: Shapes) -> dict[str, Array]:
    """`relative_position_index` beside every table."""
    index = relative_position_index(config.grid)
    tables = (name for name in shapes if name.endswith(TABLE))
    return {name.removesuffix(TABLE) + INDEX: np.array(index) for name in tables}


_published = partial(Layout, constants=_constants)
CONVERTER = Converter(
    FAMILY,
    layouts=(
        _published("BEiT, mean pooling", ENCODER + norm_rows("fc_norm") + HEAD, parameter_specs),
        _published("BEiT, class token", ENCODER + norm_rows("norm") + HEAD, parameter_specs),
        _published("BEiT, pretrained", ENCODER + norm_rows("norm") + LEFT_OUT, _pretrained),
        Layout(
            "transformers, BeitForImageClassification",
            HF_CLASSIFIER,
            parameter_specs,
            "huggingface",
        ),
        Layout(
            "transformers, BeitForMaskedImageModeling", HF_PRETRAINED, _pretrained, "huggingface"
        ),
    ),
    tell=tell,
    specs=parameter_specs,
    model_type="beit",
)

convert_weight = CONVERTER.convert_weight

if __name__ == "__main__":
    sys.exit(main(CONVERTER))
