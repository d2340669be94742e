"""Masked autoencoder weights from PyTorch and back.

    python mindformers_vit/models/mae/convert_weight.py \
        --torch_path mae_pretrain_vit_base_full.pth --mindspore_path mae_vit_base_p16.ckpt

Reads the files of https://github.com/facebookresearch/mae (their licence is CC-BY-NC 4.0): with the
decoder, or the encoder alone; transformers' ViTMAEForPreTraining; MindFormers' checkpoints.
Fine-tuned classifiers: `models/vit/convert_weight.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.models import hugging_face as hf
from mindformers_vit.models import mindformers_names as mf
from mindformers_vit.models.conversion_table import (
    Layout,
    Row,
    Shapes,
    block_rows,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.convert import Converter
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.infer_config import depth, shape_of, trunk_settings
from mindformers_vit.models.mae.mae_config import FAMILY, ViTMAEConfig
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
HUGGING_FACE = [
    *hf.embedding_rows("vit.embeddings"),
    Row("vit.embeddings.position_embeddings", "pos_embed"),
    *hf.block_rows("vit.encoder.layer.{i}", "blocks.{i}"),
    hf.qkv_row("vit.encoder.layer.{i}", "blocks.{i}", "bias"),
    *norm_rows("vit.layernorm", "norm"),
    *(Row(f"decoder.{name}", name) for name in ("mask_token", "decoder_pos_embed")),
    *linear_rows("decoder.decoder_embed", "decoder_embed"),
    *hf.block_rows("decoder.decoder_layers.{i}", "decoder_blocks.{i}"),
    hf.qkv_row("decoder.decoder_layers.{i}", "decoder_blocks.{i}", "bias"),
    *norm_rows("decoder.decoder_norm", "decoder_norm"),
    *linear_rows("decoder.decoder_pred", "decoder_pred"),
]
MF_ENCODER = [*mf.encoder_rows(), *mf.leaf_rows("vit.norm", "norm"), *mf.TRAINING_ROWS]
MF_FULL = MF_ENCODER + mf.decoder_rows()


def tell(shapes: Shapes) -> dict[str, Any]:
    """The settings that shapes tell; without decoder tensors the decoder's are the default ones.

    Raises:
        CheckpointError: these are not the shapes of a masked autoencoder.
    """
    settings = trunk_settings(shapes)
    if "mask_token" not in shapes:
        default = ViTMAEConfig.model_fields["decoder_num_attention_heads"].default
        return settings | {"decoder_num_attention_heads": default}
    return settings | {
        "decoder_hidden_size": shape_of(shapes, "mask_token", 3)[2],
        "decoder_num_hidden_layers": depth(shapes, "decoder_blocks"),
        "decoder_intermediate_size": shape_of(shapes, "decoder_blocks.0.mlp.fc1.weight", 2)[0],
    }


CONVERTER = Converter(
    FAMILY,
    layouts=(
        Layout("facebookresearch/mae, encoder and decoder", ENCODER + DECODER, parameter_specs),
        Layout("facebookresearch/mae, encoder only", ENCODER, encoder_specs),
        Layout("transformers, ViTMAEForPreTraining", HUGGING_FACE, parameter_specs, "huggingface"),
        Layout("MindFormers, ViTMAEForPreTraining", MF_FULL, parameter_specs, "mindformers"),
        Layout("MindFormers, encoder only", MF_ENCODER, encoder_specs, "mindformers"),
    ),
    tell=tell,
    specs=parameter_specs,
    needed=("num_attention_heads", "decoder_num_attention_heads"),
    options=("image_size", "norm_pix_loss"),
    model_type="vit_mae",
)

convert_weight = CONVERTER.convert_weight

if __name__ == "__main__":
    sys.exit(main(CONVERTER))
