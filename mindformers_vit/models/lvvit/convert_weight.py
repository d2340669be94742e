"""LV-ViT weights from PyTorch and back.

    python mindformers_vit/models/lvvit/convert_weight.py \
        --torch_path lvvit_s-26M-224-83.3.pth.tar --mindspore_path lvvit_s.ckpt

Reads the files of https://github.com/zihangJiang/TokenLabeling (Apache-2.0): the tensors alone, or
under `state_dict_ema` (the averaged ones, taken first), `state_dict` or `model`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python then sees this folder in the repository's place
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import convert
from mindformers_vit.models.convert import (
    Layout,
    Shapes,
    batch_norm_rows,
    block_rows,
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.infer_config import shape_of, trunk_settings
from mindformers_vit.models.layers.parameters import shapes_of
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig
from mindformers_vit.models.lvvit.lvvit_params import parameter_specs

CONTAINERS = ("state_dict_ema", "state_dict", "model")
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


def infer_config(shapes: Shapes) -> LVViTConfig:
    """The settings that shapes tell (heads: 1; `skip_lam` and `crop_pct` they do not).

    Raises:
        CheckpointError: these are not the shapes of an LV-ViT.
    """
    for head in ("head", "aux_head"):
        shape_of(shapes, f"{head}.weight", 2)
    stem, channels = shape_of(shapes, "patch_embed.conv1.weight", 4)[:2]
    settings = trunk_settings(shapes)
    side = settings["patch_size"]  # of the last projection: the stem has halved the image
    settings |= {
        "num_channels": channels,
        "stem_width": stem,
        "patch_size": 2 * side,
        "image_size": 2 * settings["image_size"],
        "num_labels": shapes["head.weight"][0],
    }
    try:
        return LVViTConfig(**settings)
    except ValueError as error:
        raise CheckpointError(f"no LV-ViT has these shapes: {error}") from error


def _expected(shapes: Shapes) -> Shapes:
    return shapes_of(parameter_specs(infer_config(shapes)))


LAYOUTS = [Layout("zihangJiang/TokenLabeling", ROWS, _expected)]


def convert_weight(
    torch_path: str | Path, mindspore_path: str | Path, *, reversed: bool = False
) -> str:
    """See `mindformers_vit.models.convert.convert_weight`; back into `state_dict`."""
    return convert.convert_weight(
        torch_path,
        mindspore_path,
        LAYOUTS,
        reversed=reversed,
        containers=CONTAINERS,
        written_under="state_dict",
    )


if __name__ == "__main__":
    sys.exit(convert.main(convert_weight, "LV-ViT weights, PyTorch <-> MindSpore."))
