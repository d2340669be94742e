"""Masked autoencoder weights from PyTorch and back.

    python mindformers_vit/models/mae/convert_weight.py \
        --torch_path mae_pretrain_vit_base_full.pth --mindspore_path mae_vit_base_p16.ckpt

Reads the files of https://github.com/facebookresearch/mae (their licence is CC-BY-NC 4.0): with the
decoder, or the encoder alone. Fine-tuned classifiers: `models/vit/convert_weight.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import convert
from mindformers_vit.models.convert import Layout, Shapes, block_rows, linear_rows, norm_rows, same
from mindformers_vit.models.infer_config import depth, trunk_settings
from mindformers_vit.models.layers.parameters import shapes_of
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.mae.mae_params import encoder_specs, parameter_specs

ENCODER = [
    *same("cls_token", "pos_embed"),
    *linear_rows("patch_embed.proj"),
    *block_rows("blocks.{i}"),
    *norm_rows("norm"),
]
DECODER = [
    *same("mask_token", "decoder_pos_embed"),
    *linear_rows("decoder_embed"),
    *block_rows("decoder_blocks.{i}"),
    *norm_rows("decoder_norm"),
    *linear_rows("decoder_pred"),
]


def infer_config(shapes: Shapes) -> ViTMAEConfig:
    """The settings that shapes tell (heads: 1); without decoder tensors the decoder's are default.

    Raises:
        CheckpointError: these are not the shapes of a masked autoencoder.
    """
    settings = trunk_settings(shapes) | {"decoder_num_attention_heads": 1}
    if "mask_token" in shapes:
        settings |= {
            "decoder_hidden_size": shapes["mask_token"][-1],
            "decoder_num_hidden_layers": depth(shapes, "decoder_blocks"),
        }
    fc1 = shapes.get("decoder_blocks.0.mlp.fc1.weight")
    settings |= {"decoder_intermediate_size": fc1[0]} if fc1 else {}
    try:
        return ViTMAEConfig(**settings)
    except ValueError as error:
        raise CheckpointError(f"no masked autoencoder has these shapes: {error}") from error


def _full(shapes: Shapes) -> Shapes:
    return shapes_of(parameter_specs(infer_config(shapes)))


def _encoder(shapes: Shapes) -> Shapes:
    return shapes_of(encoder_specs(infer_config(shapes)))


LAYOUTS = [
    Layout("facebookresearch/mae, encoder and decoder", [*ENCODER, *DECODER], _full),
    Layout("facebookresearch/mae, encoder only", ENCODER, _encoder),
]


def convert_weight(
    torch_path: str | Path, mindspore_path: str | Path, *, reversed: bool = False
) -> str:
    """See `mindformers_vit.models.convert.convert_weight`."""
    return convert.convert_weight(torch_path, mindspore_path, LAYOUTS, reversed=reversed)


if __name__ == "__main__":
    sys.exit(convert.main(convert_weight, "Masked autoencoder weights, PyTorch <-> MindSpore."))
