"""What a classifier may be loaded from. No MindSpore here.

A classifier's file must fit, but for the grid of the position embedding, which is resized. With
`new_parts` a head for other classes starts anew, and a pretraining file will do: the decoder is
left, the head is new with tiny weights (std 2e-5), and so is `fc_norm`, which replaces `norm`. For
linear probing the head's batch norm is new, too, and the head as `vit_params` has it.
"""

from __future__ import annotations

from collections.abc import Mapping

from mindformers_vit.models.layers.parameters import normal
from mindformers_vit.models.loading import Array, LoadingRules, no_head, resize_positions
from mindformers_vit.models.vit.vit_config import ViTConfig

NEW_HEAD_STD = 2e-5


def loading_rules(
    config: ViTConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: a file without a head, and no new one is allowed.
    """
    resize = {r"pos_embed": lambda table, shape: resize_positions(config, table)}
    new_values = {} if config.linear_probe else {"head.weight": normal(NEW_HEAD_STD)}
    probe = (r"head_norm\..*",) if config.linear_probe else ()
    if any(name.startswith("head.") for name in loaded):
        allow_new = (r"head\..*", *probe) if new_parts else ()
        return LoadingRules(allow_new=allow_new, resize=resize, new_values=new_values)
    if not new_parts:
        raise no_head()
    left_over = ("?mask_token", "?decoder_.*")
    if not config.use_mean_pooling:
        return LoadingRules((r"head\..*", *probe), left_over, resize, new_values)
    return LoadingRules(
        (r"head\..*", *probe, r"fc_norm\..*"), (*left_over, r"?norm\..*"), resize, new_values
    )
