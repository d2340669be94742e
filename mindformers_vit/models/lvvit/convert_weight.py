"""LV-ViT weights from PyTorch and back.

    python mindformers_vit/models/lvvit/convert_weight.py \
        --torch_path lvvit_s-26M-224-83.3.pth.tar --mindspore_path lvvit_s.ckpt

Reads the files of https://github.com/zihangJiang/TokenLabeling (Apache-2.0): the tensors alone, or
under `state_dict_ema` (the averaged ones, taken first), `state_dict` or `model`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.models.conversion_table import (
    Layout,
    Shapes,
    batch_norm_rows,
    block_rows,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.convert import Converter
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.infer_config import shape_of, trunk_settings
from mindformers_vit.models.lvvit.lvvit_config import FAMILY
from mindformers_vit.models.lvvit.lvvit_params import parameter_specs

ROWS = [
    *same("cls_token", "pos_embed"),
    *same("patch_embed.conv{i}.weight"),
    *batch_norm_rows("patch_embed.bn{i}"),
    *linear_rows("patch_embed.proj"),
    *block_rows("blocks.{i}"),
    *norm_rows("norm"),
    *linear_rows("head"),
    *linear_rows("aux_head"),
]


def tell(shapes: Shapes) -> dict[str, Any]:
    """The settings that shapes tell.

    Raises:
        CheckpointError: these are not the shapes of an LV-ViT.
    """
    for head in ("head", "aux_head"):
        shape_of(shapes, f"{head}.weight", 2)
    stem, channels = shape_of(shapes, "patch_embed.conv1.weight", 4)[:2]
    settings = trunk_settings(shapes)
    for name in ("patch_size", "image_size"):  # of the last projection: the stem halved the image
        settings |= {name: 2 * settings[name]} if name in settings else {}
    return settings | {
        "num_channels": channels,
        "stem_width": stem,
        "num_labels": shapes["head.weight"][0],
    }


CONVERTER = Converter(
    FAMILY,
    layouts=(Layout("zihangJiang/TokenLabeling", ROWS, parameter_specs),),
    tell=tell,
    specs=parameter_specs,
    needed=("num_attention_heads", "skip_lam"),
    options=("image_size",),
    containers=("state_dict_ema", "state_dict", "model"),
    written_under="state_dict",
)

convert_weight = CONVERTER.convert_weight

if __name__ == "__main__":
    sys.exit(main(CONVERTER))
