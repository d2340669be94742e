"""sMLPNet's parameters as data: names, shapes, initial values, layers. No MindSpore here.

Initial values are PyTorch's defaults, biases too. The batch norms' moving statistics are
parameters that training changes without a gradient.
"""

from __future__ import annotations

import math

from mindformers_vit.models.layers import parameters as p
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig

HEAD = "mlp_head.0"


def parameter_specs(config: SMLPNetConfig) -> p.ParamSpecs:
    """Every parameter of `SMLPNetForImageClassification(config)`, by name."""
    specs: p.ParamSpecs = {}
    channels, patch = config.num_channels, config.patch_size
    for stage, width in enumerate(config.stage_widths):
        specs |= _weight(f"to_patch_embedding.{stage}.0", (width, channels, patch, patch))
        channels, patch = width, 2
    for block in range(config.num_hidden_layers):
        stage = config.stage_of(block)
        width, (rows, columns) = config.stage_widths[stage], config.stage_grids[stage]
        name = f"token_mix.{block}"
        specs |= p.batch_norm(f"{name}.0.conv_merge.BN", width)
        specs |= _weight(f"{name}.0.conv_merge.Conv", (width, 1, 3, 3))
        specs |= p.batch_norm(f"{name}.1.BN", width)
        specs |= _weight(f"{name}.1.proj_h", (columns, columns, 1, 1), bias=True)
        specs |= _weight(f"{name}.1.proh_w", (rows, rows, 1, 1), bias=True)
        specs |= _weight(f"{name}.1.fuse", (width, 3 * width, 1, 1))
        name, hidden = f"channel_mix.{block}", config.mlp_ratio * width
        specs |= p.norm(f"{name}.1", width)
        specs |= _weight(f"{name}.2.net.0", (hidden, width), bias=True)
        specs |= _weight(f"{name}.2.net.3", (width, hidden), bias=True)
    width = config.stage_widths[-1]
    specs |= p.batch_norm("batch_norm", width)
    return specs | _weight(HEAD, (config.num_labels, width), bias=True)


def layer_id(name: str, config: SMLPNetConfig) -> int:
    """0 for the first embedding, k + 1 in block k, what comes after the blocks last.

    The embedding of a later stage belongs to the first block of that stage.
    """
    part, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if part == "to_patch_embedding":
        return config.stage_starts[int(number)] + 1 if number != "0" else 0
    if part in {"token_mix", "channel_mix"}:
        return int(number) + 1
    return config.num_hidden_layers + 1


def _weight(name: str, shape: p.Shape, *, bias: bool = False) -> p.ParamSpecs:
    """`name.weight`, and `name.bias` if there is one, both as PyTorch makes them."""
    init = p.torch_default(math.prod(shape[1:]))
    specs = {f"{name}.weight": p.ParamSpec(shape, init)}
    if bias:
        specs[f"{name}.bias"] = p.ParamSpec(shape[:1], init)
    return specs
