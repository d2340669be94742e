"""sMLPNet weights from PyTorch and back.

    python mindformers_vit/models/smlpnet/convert_weight.py \
        --torch_path smlp_s.pth --mindspore_path smlpnet_small.ckpt

Reads the files of https://github.com/microsoft/SPACH (MIT), tensors under "model" or at the top.
The batch norms' `num_batches_tracked` (int64) only counts batches and is dropped; PyTorch loads a
file without it strictly.
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
    linear_rows,
    norm_rows,
    same,
)
from mindformers_vit.models.convert import Converter
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.infer_config import shape_of
from mindformers_vit.models.smlpnet.smlpnet_config import FAMILY, STAGES
from mindformers_vit.models.smlpnet.smlpnet_params import HEAD, parameter_specs

ROWS = [
    *same("to_patch_embedding.{i}.0.weight"),
    *batch_norm_rows("token_mix.{i}.0.conv_merge.BN"),
    *same("token_mix.{i}.0.conv_merge.Conv.weight"),
    *batch_norm_rows("token_mix.{i}.1.BN"),
    *linear_rows("token_mix.{i}.1.proj_h"),
    *linear_rows("token_mix.{i}.1.proh_w"),
    *same("token_mix.{i}.1.fuse.weight"),
    *norm_rows("channel_mix.{i}.1"),
    *linear_rows("channel_mix.{i}.2.net.0"),
    *linear_rows("channel_mix.{i}.2.net.3"),
    *batch_norm_rows("batch_norm"),
    *linear_rows(HEAD),
]


def tell(shapes: Shapes) -> dict[str, Any]:
    """The settings that shapes tell.

    Raises:
        CheckpointError: these are not the shapes of an sMLPNet.
    """
    width, channels, patch, _ = shape_of(shapes, "to_patch_embedding.0.0.weight", 4)
    columns = shape_of(shapes, "token_mix.0.1.proj_h.weight", 4)[0]
    rows = shape_of(shapes, "token_mix.0.1.proh_w.weight", 4)[0]
    found = [shape[0] for name, shape in shapes.items() if name.endswith(".1.fuse.weight")]
    size = (rows * patch, columns * patch)
    return {
        "image_size": size[0] if rows == columns else size,
        "patch_size": patch,
        "num_channels": channels,
        "hidden_size": width,
        "depths": tuple(found.count(width * 2**stage) for stage in range(STAGES)),
        "mlp_ratio": shape_of(shapes, "channel_mix.0.2.net.0.weight", 2)[0] // max(width, 1),
        "num_labels": shape_of(shapes, f"{HEAD}.weight", 2)[0],
    }


CONVERTER = Converter(
    FAMILY,
    layouts=(Layout("microsoft/SPACH, sMLPNet", ROWS, parameter_specs),),
    tell=tell,
    specs=parameter_specs,
)

convert_weight = CONVERTER.convert_weight

if __name__ == "__main__":
    sys.exit(main(CONVERTER))
