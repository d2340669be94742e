"""What one forward pass of one image takes: multiply-adds, counted from the parameters' shapes.

Counted are the weights' products and the attention's two; norms, activations and softmax are not.
No MindSpore here.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from mindformers_vit.models.layers.parameters import ParamSpecs
from mindformers_vit.registry import ModelFamily

Positions = Callable[[str, Any], int]
# pattern of a weight's name -> how often it is applied to one image, for what is made of tokens
_TOKENS: Mapping[str, Positions] = {
    r"patch_embed\.conv\d\.weight": lambda _, c: c.image_hw[0] // 2 * (c.image_hw[1] // 2),
    r"patch_embed\.proj\.weight": lambda _, c: _seen(c),
    r"blocks\.\d+\..*\.weight": lambda _, c: _seen(c) + 1,
    r"decoder_embed\.weight": lambda _, c: _seen(c) + 1,
    r"decoder_(blocks\.\d+\..*|pred)\.weight": lambda _, c: c.num_patches + 1,
    r"head\.weight": lambda _, c: 1,
    r"aux_head\.weight": lambda _, c: c.num_patches,
}


def parameters_of(family: ModelFamily, config: Any) -> ParamSpecs:
    """The network's parameters as data."""
    module = importlib.import_module(f"mindformers_vit.models.{family.name}.{family.name}_params")
    specs: ParamSpecs = module.parameter_specs(config)
    return specs


def multiply_adds(family: ModelFamily, config: Any) -> int:
    """Of one image; of a masked autoencoder with its decoder."""
    total = 0
    stages = hasattr(config, "stage_grids")
    for name, spec in parameters_of(family, config).items():
        if len(spec.shape) > 1 and name.endswith(".weight"):
            times = _in_stage(name, spec.shape, config) if stages else _by_token(name, config)
            total += math.prod(spec.shape) * times
    return total + (0 if stages else _attention(config))


def _seen(config: Any) -> int:
    """Patches that the trunk sees."""
    return int(getattr(config, "num_visible", config.num_patches))


def _by_token(name: str, config: Any) -> int:
    for pattern, positions in _TOKENS.items():
        if re.fullmatch(pattern, name):
            return positions(name, config)
    raise ValueError(f"{name}: no row says how often it is applied")


def _attention(config: Any) -> int:
    """The products of queries with keys and of attention with values."""
    trunk = config.num_hidden_layers * (_seen(config) + 1) ** 2 * config.hidden_size
    if not hasattr(config, "decoder_hidden_size"):
        return 2 * trunk
    tokens, width = config.num_patches + 1, config.decoder_hidden_size
    return 2 * (trunk + config.decoder_num_hidden_layers * tokens**2 * width)


def _in_stage(name: str, shape: tuple[int, ...], config: Any) -> int:
    """Of a network in stages: the places of the grid, or the lines that a mixing weight takes."""
    part, number, *_ = name.split(".")
    if part == "mlp_head":
        return 1
    stage = int(number) if part == "to_patch_embedding" else config.stage_of(int(number))
    rows, columns = config.stage_grids[stage]
    if ".proj_h." in name:
        return rows * config.stage_widths[stage]
    if ".proh_w." in name:
        return columns * config.stage_widths[stage]
    return rows * columns
