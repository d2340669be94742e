"""What a BEiT classifier may be loaded from. No MindSpore here.

Its file must fit, but for two things of position: tables of another grid are resized, and a file's
one table for all blocks is copied into each block's own where the network has those. With
`new_parts` a head for other classes starts anew, and a pretraining file will do: head and
`fc_norm` are new, and `norm`, which that replaces, is left.
"""

from __future__ import annotations

from collections.abc import Mapping

from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.beit.beit_params import SHARED_TABLE, TABLE, block_table
from mindformers_vit.models.beit.relative_position import resize_table
from mindformers_vit.models.loading import Array, LoadingRules, no_head


def loading_rules(
    config: BeitConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: a file without a head, and no new one is allowed.
    """
    has_head = any(name.startswith("head.") for name in loaded)
    if not has_head and not new_parts:
        raise no_head()
    allow_new = [r"head\..*"] if new_parts else []
    allow_unused = []
    if not has_head and config.use_mean_pooling:
        allow_new.append(r"fc_norm\..*")
        allow_unused.append(r"?norm\..*")
    copies = _copies(config, loaded)
    if copies:
        allow_unused.append(SHARED_TABLE.replace(".", r"\."))
    resize = {rf".*\.{TABLE}": lambda table, shape: resize_table(table, config.grid)}
    return LoadingRules(tuple(allow_new), tuple(allow_unused), resize, copies=copies)


def _copies(config: BeitConfig, loaded: Mapping[str, Array]) -> dict[str, str]:
    """Every block's table from the file's only one, if the network has no place for that."""
    if SHARED_TABLE not in loaded or config.use_shared_relative_position_bias:
        return {}
    tables = map(block_table, range(config.num_hidden_layers))
    return {name: SHARED_TABLE for name in tables if name not in loaded}
