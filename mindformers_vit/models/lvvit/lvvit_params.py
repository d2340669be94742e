"""LV-ViT's parameters as data: names, shapes, initial values, layers. No MindSpore here.

Initial values as in the reference: N(0, 0.02²) for tokens, position embedding and every linear
layer; the stem keeps PyTorch's defaults.
"""

from __future__ import annotations

from mindformers_vit.models.layers import parameters as p
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig


def parameter_specs(config: LVViTConfig) -> p.ParamSpecs:
    """Every parameter of `LVViTForImageClassification(config)`, by name."""
    width = config.hidden_size
    normal = p.normal(config.initializer_range)
    return {
        "cls_token": p.ParamSpec((1, 1, width), normal),
        "pos_embed": p.ParamSpec((1, config.num_patches + 1, width), normal),
        **_stem(config),
        **p.blocks("blocks", config, weight=normal),
        **p.norm("norm", width),
        **p.linear("head", width, config.num_labels, weight=normal),
        **p.linear("aux_head", width, config.num_labels, weight=normal),
    }


def _stem(config: LVViTConfig) -> p.ParamSpecs:
    """Three convolutions with batch norm, and the projection of what is left of a patch."""
    name, stem, side = "patch_embed", config.stem_width, config.patch_size // 2
    specs: p.ParamSpecs = {}
    for number, channels, kernel in ((1, config.num_channels, 7), (2, stem, 3), (3, stem, 3)):
        weight = p.torch_default(channels * kernel**2)
        specs[f"{name}.conv{number}.weight"] = p.ParamSpec((stem, channels, kernel, kernel), weight)
        specs |= p.batch_norm(f"{name}.bn{number}", stem)
    return specs | p.patch_embed(stem, side, config.hidden_size)
