"""Settings of a network from the shapes of its parameters. No MindSpore here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.parameters import Shape
from mindformers_vit.registry import ModelFamily

# the heads of published networks of any family, by the width that tells them
_HEADS = {
    "num_attention_heads": ("hidden_size", {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}),
    "decoder_num_attention_heads": ("decoder_hidden_size", {512: 16}),
}
_WIDTHS = ("hidden_size", "intermediate_size", "num_hidden_layers")
_SIZES = ("patch_size", "num_channels", *_WIDTHS, *(f"decoder_{name}" for name in _WIDTHS))
_FREE = {"image_size", "num_channels", "num_labels", "use_mean_pooling", "qkv_bias"}


def trunk_settings(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Every `TransformerConfig` setting that shapes tell; heads they do not.

    `image_size` is left out when the grid of `pos_embed` is not square.

    Raises:
        CheckpointError: a tensor that every such network has is missing or odd.
    """
    settings = block_settings(shapes)
    tokens = shape_of(shapes, "pos_embed", 3)[1]
    side = math.isqrt(max(tokens - 1, 0))
    if side * side == tokens - 1 and side:
        settings["image_size"] = side * settings["patch_size"]
    return settings


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
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{blocks}.")})


def shape_of(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    """The shape of a tensor that must be there; CheckpointError if not, or of other axes."""
    if name not in shapes:
        raise CheckpointError(f"'{name}' is missing, which every such network has")
    if len(shapes[name]) != axes:
        raise CheckpointError(f"'{name}' has shape {shapes[name]}, {axes} axes are expected")
    return shapes[name]


def published(family: ModelFamily, told: Mapping[str, Any]) -> str | None:
    """The name of the family's variant that these settings are, but for image and classes."""
    fixed = {name: value for name, value in told.items() if name not in _FREE}
    sized = [fixed | {"image_size": told.get("image_size")}, fixed]  # the right image first
    for wanted in sized:
        for name, changes in family.variants.items():
            config = family.config_class(**changes)
            if all(getattr(config, key) == value for key, value in wanted.items()):
                return name
    return None


def complete(
    family: ModelFamily, told: Mapping[str, Any], given: Mapping[str, Any], needed: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """The settings that shapes told with those that they cannot tell.

    Those come from `given` (a file's own settings, the user's), else from the published network of
    these sizes, else from the published heads of the width.

    Returns:
        The settings (1 for what is unknown), and the names of `needed` that are unknown.

    Raises:
        CheckpointError: the given sizes are not the told ones, or nothing tells the image's.
    """
    both = [key for key in _SIZES if key in told and key in given and told[key] != given[key]]
    if both:
        pairs = [f"{key} {str(given[key])[:40]}, but the tensors have {told[key]}" for key in both]
        raise CheckpointError(f"the settings say {'; '.join(pairs)}")
    if "image_size" not in {*told, *given}:
        raise CheckpointError(
            "pos_embed is not one row and a square grid of patches; give --image_size "
            "'[HEIGHT, WIDTH]'"
        )
    name = published(family, told)
    settings = dict(family.variants[name]) if name else {}
    if name:
        config = family.config_class(**settings)
        settings |= {key: getattr(config, key) for key in needed}
    for key, (width, heads) in _HEADS.items():
        if key in needed and told.get(width) in heads:
            settings.setdefault(key, heads[told[width]])
    settings |= {**told, **given}
    missing = [key for key in needed if key not in settings]
    return settings | dict.fromkeys(missing, 1), missing
