"""Settings of a ViT-like network from the shapes of its parameters. No MindSpore here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.parameters import Shape


def trunk_settings(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Every `TransformerConfig` setting that shapes tell; heads they do not, so that is 1.

    Raises:
        CheckpointError: a tensor that every such network has is missing or odd.
    """
    settings = block_settings(shapes)
    tokens = shape_of(shapes, "pos_embed", 3)[1]
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        raise CheckpointError(f"pos_embed has {tokens} rows, not 1 + a square grid of patches")
    return settings | {"image_size": side * settings["patch_size"], "num_attention_heads": 1}


def block_settings(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The settings that tell neither the image's size nor the number of heads.

    Raises:
        CheckpointError: as `trunk_settings`.
    """
    channels, patch = shape_of(shapes, "patch_embed.proj.weight", 4)[1:3]
    return {
        "patch_size": patch,
        "num_channels": channels,
        "hidden_size": shape_of(shapes, "cls_token", 3)[2],
        "num_hidden_layers": depth(shapes, "blocks"),
        "intermediate_size": shape_of(shapes, "blocks.0.mlp.fc1.weight", 2)[0],
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
    }


def depth(shapes: Mapping[str, Shape], blocks: str) -> int:
    """How many blocks are called `<blocks>.NUMBER`; a gap shows later, as a missing tensor."""
    numbers = {name.split(".")[1] for name in shapes if name.startswith(f"{blocks}.")}
    return len(numbers)


def shape_of(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    """The shape of a tensor that must be there; CheckpointError if not, or of other axes."""
    if name not in shapes:
        raise CheckpointError(f"'{name}' is missing, which every such network has")
    if len(shapes[name]) != axes:
        raise CheckpointError(f"'{name}' has shape {shapes[name]}, {axes} axes are expected")
    return shapes[name]
