"""Classifier weights from PyTorch and back.

    python mindformers_vit/models/vit/convert_weight.py \
        --torch_path mae_finetuned_vit_base.pth --mindspore_path vit_base_p16.ckpt

Reads the fine-tuned files of https://github.com/facebookresearch/mae (their licence is
CC-BY-NC 4.0), mean pooling or class token. Pretraining files: `models/mae/convert_weight.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import convert
from mindformers_vit.models.convert import Layout, Shapes, block_rows, linear_rows, norm_rows, same
from mindformers_vit.models.infer_config import trunk_settings
from mindformers_vit.models.layers.parameters import shapes_of
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.models.vit.vit_params import parameter_specs

TRUNK = [
    *same("cls_token", "pos_embed"),
    *linear_rows("patch_embed.proj"),
    *block_rows("blocks.{i}"),
    *linear_rows("head"),
]


def infer_config(shapes: Shapes) -> ViTConfig:
    """The settings that shapes tell (heads: 1).

    Raises:
        CheckpointError: these are not the shapes of a classifier.
    """
    if "head.weight" not in shapes:
        raise CheckpointError(
            "'head.weight' is missing: a pretraining file is converted by "
            "mindformers_vit/models/mae/convert_weight.py, and fine-tuned from"
        )
    settings = trunk_settings(shapes) | {
        "use_mean_pooling": "fc_norm.gamma" in shapes,
        "num_labels": shapes["head.weight"][0],
    }
    try:
        return ViTConfig(**settings)
    except ValueError as error:
        raise CheckpointError(f"no classifier has these shapes: {error}") from error


def _expected(shapes: Shapes) -> Shapes:
    return shapes_of(parameter_specs(infer_config(shapes)))


LAYOUTS = [
    Layout("facebookresearch/mae, mean pooling", [*TRUNK, *norm_rows("fc_norm")], _expected),
    Layout("facebookresearch/mae, class token", [*TRUNK, *norm_rows("norm")], _expected),
]


def convert_weight(
    torch_path: str | Path, mindspore_path: str | Path, *, reversed: bool = False
) -> str:
    """See `mindformers_vit.models.convert.convert_weight`."""
    return convert.convert_weight(torch_path, mindspore_path, LAYOUTS, reversed=reversed)


if __name__ == "__main__":
    sys.exit(convert.main(convert_weight, "Classifier weights, PyTorch <-> MindSpore."))
