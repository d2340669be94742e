"""What an LV-ViT may be loaded from. No MindSpore here.

Both heads must be in the file: evaluation adds the strongest token's logits to the class token's,
so an `aux_head` left at random would spoil every result. With `new_parts` both start anew where
the classes are others; the position embedding is resized to another grid.
"""

from __future__ import annotations

from collections.abc import Mapping

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.loading import Array, LoadingRules, resize_positions
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
        resize={r"pos_embed": lambda table, shape: resize_positions(config, table)},
    )
