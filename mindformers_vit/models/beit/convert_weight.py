"""BEiT weights from PyTorch and back.

    python mindformers_vit/models/beit/convert_weight.py \
        --torch_path beit_base_patch16_224_pt22k_ft22kto1k.pth \
        --mindspore_path beit_base_p16_224.ckpt

Reads the files of https://github.com/microsoft/unilm (beit and beit2, MIT licence) and timm's,
which have the same names: fine-tuned, with one table a block or one for all blocks, and pretrained
(mask token and token head are left out: no network here has them).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import convert
from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.beit.beit_params import (
    SHARED_TABLE,
    TABLE,
    encoder_specs,
    parameter_specs,
)
from mindformers_vit.models.beit.relative_position import relative_position_index, square_grid
from mindformers_vit.models.convert import (
    Array,
    Layout,
    Row,
    Shapes,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.infer_config import block_settings, shape_of
from mindformers_vit.models.layers.parameters import norm, shapes_of

INDEX = "relative_position_index"
BLOCK = "blocks.{i}"
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
    Row(f"rel_pos_bias.{INDEX}", None),
    Row(f"{BLOCK}.attn.{INDEX}", None),
]
HEAD = linear_rows("head")
LEFT_OUT = [Row(name, None) for name in ("mask_token", "lm_head.weight", "lm_head.bias")]


def infer_config(shapes: Shapes) -> BeitConfig:
    """The settings that shapes tell.

    Raises:
        CheckpointError: these are not the shapes of a BEiT.
    """
    tables = [name for name in shapes if name.endswith(TABLE)]
    if not tables:
        raise CheckpointError(f"no '{TABLE}' is there, which every BEiT has")
    rows, heads = shape_of(shapes, tables[0], 2)
    blocks = block_settings(shapes)
    settings = blocks | {
        "image_size": square_grid(rows) * blocks["patch_size"],
        "num_attention_heads": heads,
        "qkv_bias": "blocks.0.attn.q_bias" in shapes,
        "use_shared_relative_position_bias": SHARED_TABLE in shapes,
        "use_relative_position_bias": tables != [SHARED_TABLE],
        "layer_scale_init_value": 0.1 if "blocks.0.gamma_1" in shapes else 0.0,
        "use_mean_pooling": "norm.gamma" not in shapes,
        "num_labels": shape_of(shapes, "head.weight", 2)[0] if "head.weight" in shapes else 1,
    }
    try:
        return BeitConfig(**settings)
    except ValueError as error:
        raise CheckpointError(f"no BEiT has these shapes: {error}") from error


def _classifier(shapes: Shapes) -> Shapes:
    return shapes_of(parameter_specs(infer_config(shapes)))


def _pretrained(shapes: Shapes) -> Shapes:
    config = infer_config(shapes)
    return shapes_of({**encoder_specs(config), **norm("norm", config.hidden_size)})


def _constants(shapes: Shapes) -> dict[str, Array]:
    """`relative_position_index` beside every table."""
    config = infer_config(shapes)
    index = relative_position_index(config.grid)
    tables = (name for name in shapes if name.endswith(TABLE))
    return {name.removesuffix(TABLE) + INDEX: np.array(index) for name in tables}


LAYOUTS = [
    Layout("BEiT, mean pooling", [*ENCODER, *norm_rows("fc_norm"), *HEAD], _classifier, _constants),
    Layout("BEiT, class token", [*ENCODER, *norm_rows("norm"), *HEAD], _classifier, _constants),
    Layout("BEiT, pretrained", [*ENCODER, *norm_rows("norm"), *LEFT_OUT], _pretrained, _constants),
]


def convert_weight(
    torch_path: str | Path, mindspore_path: str | Path, *, reversed: bool = False
) -> str:
    """See `mindformers_vit.models.convert.convert_weight`."""
    return convert.convert_weight(torch_path, mindspore_path, LAYOUTS, reversed=reversed)


if __name__ == "__main__":
    sys.exit(convert.main(convert_weight, "BEiT weights, PyTorch <-> MindSpore."))
