"""What a network may leave out of, or not find in, a weight file: the rules. No MindSpore."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindformers_vit.checkpoint.merge import Resize
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.parameters import Init
from mindformers_vit.models.layers.pos_embed import resize_pos_embed
from mindformers_vit.models.transformer_config import TransformerConfig

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LoadingRules:
    """Arguments for `checkpoint.merge`, and the first values of what the file does not give."""

    allow_new: tuple[str, ...] = ()  # patterns of the network's names
    allow_unused: tuple[str, ...] = ()  # patterns of the file's names
    resize: Mapping[str, Resize] = field(default_factory=dict)
    new_values: Mapping[str, Init] = field(default_factory=dict)  # name -> instead of its own
    copies: Mapping[str, str] = field(default_factory=dict)  # network's name <- the file's


def resize_positions(config: TransformerConfig, table: Array) -> Array:
    """(1, 1 + N_old, D) -> (1, 1 + N, D) for the grid of `config`; the old one must be square.

    Raises:
        CheckpointError: it is not.
    """
    side = math.isqrt(max(table.shape[1] - 1, 0)) if table.ndim == 3 else 0
    if side == 0 or side * side + 1 != table.shape[1]:
        raise CheckpointError(
            f"pos_embed: the file has shape {table.shape}; only a class token and a square grid "
            f"can be resized to the {config.grid[0]}x{config.grid[1]} grid of image_size "
            f"{config.image_size}, patch_size {config.patch_size}"
        )
    return resize_pos_embed(table, (side, side), config.grid)


def no_head() -> CheckpointError:
    """What is wrong with a file from pretraining where a classifier's is needed."""
    return CheckpointError(
        "the file has no classification head (head.weight): it is from pretraining. "
        "Fine-tune from it (--run_mode finetune; in Python: new_parts=True) "
        "before evaluating or predicting"
    )
