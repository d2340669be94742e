"""Classifier weights from PyTorch and back.

    python mindformers_vit/models/vit/convert_weight.py \
        --torch_path mae_finetuned_vit_base.pth --mindspore_path vit_base_p16.ckpt

Reads the fine-tuned files of https://github.com/facebookresearch/mae (their licence is
CC-BY-NC 4.0), mean pooling or class token; timm's, which have the same names; transformers'
ViTForImageClassification; MindFormers' checkpoints. Pretraining files:
`models/mae/convert_weight.py`.
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
    dropped,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.convert import Converter
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.infer_config import shape_of, trunk_settings
from mindformers_vit.models.vit.vit_config import FAMILY
from mindformers_vit.models.vit.vit_params import parameter_specs

TRUNK = [
    *same("cls_token", "pos_embed"),
    *linear_rows("patch_embed.proj"),
    *block_rows("blocks.{i}"),
    *linear_rows("head"),
]
HUGGING_FACE = [
    *hf.embedding_rows("vit.embeddings"),
    Row("vit.embeddings.position_embeddings", "pos_embed"),
    *hf.block_rows("vit.encoder.layer.{i}", "blocks.{i}"),
    hf.qkv_row("vit.encoder.layer.{i}", "blocks.{i}", "bias"),
    *norm_rows("vit.layernorm", "norm"),
    *linear_rows("classifier", "head"),
    *dropped("vit.pooler.dense.weight", "vit.pooler.dense.bias"),  # not used by the classifier
]
MINDFORMERS = [
    *mf.encoder_rows(),
    *mf.leaf_rows("vit.fc_norm", "fc_norm"),
    *linear_rows("head"),
    *mf.TRAINING_ROWS,
]


def tell(shapes: Shapes) -> dict[str, Any]:
    """The settings that shapes tell.

    Raises:
        CheckpointError: these are not the shapes of a classifier.
    """
    return trunk_settings(shapes) | {
        "use_mean_pooling": "fc_norm.gamma" in shapes,
        "num_labels": shape_of(shapes, "head.weight", 2)[0],
    }


CONVERTER = Converter(
    FAMILY,
    layouts=(
        Layout("facebookresearch/mae, mean pooling", TRUNK + norm_rows("fc_norm"), parameter_specs),
        Layout("facebookresearch/mae, class token", TRUNK + norm_rows("norm"), parameter_specs),
        Layout(
            "transformers, ViTForImageClassification", HUGGING_FACE, parameter_specs, "huggingface"
        ),
        Layout(
            "MindFormers, ViTForImageClassification", MINDFORMERS, parameter_specs, "mindformers"
        ),
    ),
    tell=tell,
    specs=parameter_specs,
    needed=("num_attention_heads",),
    options=("image_size",),
    model_type="vit",
)

convert_weight = CONVERTER.convert_weight

if __name__ == "__main__":
    sys.exit(main(CONVERTER))
