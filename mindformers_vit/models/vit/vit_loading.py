"""What a classifier may be loaded from. No MindSpore here.

A classifier's file must fit, but for the grid of the position embedding, which is resized. With
`new_parts` a head for other classes starts anew, and a pretraining file will do: the decoder is
left, the head is new with tiny weights (std 2e-5), and so is `fc_norm`, which replaces `norm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.parameters import normal
from mindformers_vit.models.layers.pos_embed import resize_pos_embed
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.vit.vit_config import ViTConfig

NEW_HEAD_STD = 2e-5


def loading_rules(
    config: ViTConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: a file without a head, and no new one is allowed.
    """
    resize = {r"pos_embed": lambda table, shape: _resize(config, table)}
    new_values = {"head.weight": normal(NEW_HEAD_STD)}
    if any(name.startswith("head.") for name in loaded):
        allow_new = (r"head\..*",) if new_parts else ()
        return LoadingRules(allow_new=allow_new, resize=resize, new_values=new_values)
    if not new_parts:
        raise CheckpointError(
            "the file has no classification head (head.weight): it is from pretraining. "
            "Fine-tune from it (--run_mode finetune; in Python: new_parts=True) "
            "before evaluating or predicting"
        )
    left_over = ("?mask_token", "?decoder_.*")
    if not config.use_mean_pooling:
        return LoadingRules((r"head\..*",), left_over, resize, new_values)
    return LoadingRules(
        (r"head\..*", r"fc_norm\..*"), (*left_over, r"?norm\..*"), resize, new_values
    )


def _resize(config: ViTConfig, table: Array) -> Array:
    """(1, 1 + N_old, D) -> (1, 1 + N, D); the old grid is taken to be square."""
    side = math.isqrt(max(table.shape[1] - 1, 0)) if table.ndim == 3 else 0
    if side == 0 or side * side + 1 != table.shape[1]:
        raise CheckpointError(
            f"pos_embed: the file has shape {table.shape}; only a class token and a square grid "
            f"can be resized to the {config.grid[0]}x{config.grid[1]} grid of image_size "
            f"{config.image_size}, patch_size {config.patch_size}"
        )
    return resize_pos_embed(table, (side, side), config.grid)
