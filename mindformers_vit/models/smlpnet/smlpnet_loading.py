"""What an sMLPNet may be loaded from. No MindSpore here.

The file must fit, the image size too. With `new_parts` a head for other classes starts anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig


def loading_rules(
    config: SMLPNetConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: the file is of another image size.
    """
    row, column = (loaded.get(f"token_mix.0.1.{name}.weight") for name in ("proj_h", "proh_w"))
    if row is not None and column is not None:
        grid = (column.shape[0], row.shape[0])
        if grid != config.stage_grids[0]:
            height, width = (config.patch_size * side for side in grid)
            raise CheckpointError(
                f"the file is for images of {height}x{width}, the network takes "
                f"{config.image_hw[0]}x{config.image_hw[1]}: the row and column weights have the "
                f"size of the grid and cannot be resized; use image_size {height} and images of "
                f"that size"
            )
    return LoadingRules(allow_new=(r"mlp_head\.0\..*",) if new_parts else ())
