"""What an LV-ViT may be loaded from. No MindSpore here.

Both heads must be in the file: evaluation adds the strongest token's logits to the class token's,
so an `aux_head` left at random would spoil every result. With `new_parts` both start anew where
the classes are others; the position embedding is resized to another grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.pos_embed import resize_pos_embed
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig


def loading_rules(
    config: LVViTConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: the file lacks one of the heads.
    """
    for head in ("head", "aux_head"):
        if f"{head}.weight" not in loaded:
            raise CheckpointError(
                f"the file has no {head}.weight: an LV-ViT needs the heads of the class token "
                f"(head) and of the other tokens (aux_head), whose logits it adds"
            )
    classes = loaded["head.weight"].shape[0]
    is_new = new_parts and classes != config.num_labels
    return LoadingRules(
        allow_new=(r"head\..*", r"aux_head\..*") if is_new else (),
        resize={r"pos_embed": lambda table, shape: _resize(config, table)},
    )


def _resize(config: LVViTConfig, table: Array) -> Array:
    """(1, 1 + N_old, D) -> (1, 1 + N, D); the old grid is taken to be square."""
    side = math.isqrt(max(table.shape[1] - 1, 0)) if table.ndim == 3 else 0
    if side == 0 or side * side + 1 != table.shape[1]:
        raise CheckpointError(
            f"pos_embed: the file has shape {table.shape}; only a class token and a square grid "
            f"can be resized to the {config.grid[0]}x{config.grid[1]} grid of image_size "
            f"{config.image_size}, patch_size {config.patch_size}"
        )
    return resize_pos_embed(table, (side, side), config.grid)
