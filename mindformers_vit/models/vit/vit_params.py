"""The classifier's parameters as data: names, shapes, initial values, layers. No MindSpore here.

Initial values as in timm 0.3-0.5: N(0, 0.02²) for tokens, position embedding and every weight,
PyTorch's default for the patch projection. A linear probe freezes all but its head, N(0, 0.01²).
"""

from __future__ import annotations

from dataclasses import replace

from mindformers_vit.models.layers import parameters as p
from mindformers_vit.models.vit.vit_config import ViTConfig

PROBE_HEAD_STD = 0.01


def parameter_specs(config: ViTConfig) -> p.ParamSpecs:
    """Every parameter of `ViTForImageClassification(config)`, by name."""
    width = config.hidden_size
    normal = p.normal(config.initializer_range)
    specs = {
        "cls_token": p.ParamSpec((1, 1, width), normal),
        "pos_embed": p.ParamSpec((1, config.num_patches + 1, width), normal),
        **p.patch_embed(config.num_channels, config.patch_size, width),
        **p.blocks("blocks", config, weight=normal),
        **p.norm("fc_norm" if config.use_mean_pooling else "norm", width),
    }
    if not config.linear_probe:
        return specs | p.linear("head", width, config.num_labels, weight=normal)
    frozen = {name: replace(spec, trainable=False) for name, spec in specs.items()}
    head = p.linear("head", width, config.num_labels, weight=p.normal(PROBE_HEAD_STD))
    return frozen | p.moving_statistics("head_norm", width) | head
