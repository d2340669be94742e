"""The classifier's parameters as data: names, shapes, initial values. No MindSpore here.

Initial values as in BEiT's fine-tuning: N(0, 0.02²) for weights and class token, zero for tables
and biases, PyTorch's default for the patch projection; the last weight of each branch of block i
(from 1) is divided by sqrt(2·i), the head's multiplied by 0.001.
"""

from __future__ import annotations

import math

from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.beit.relative_position import table_rows
from mindformers_vit.models.layers import parameters as p

HEAD_SCALE = 0.001
TABLE = "relative_position_bias_table"
SHARED_TABLE = f"rel_pos_bias.{TABLE}"


def parameter_specs(config: BeitConfig) -> p.ParamSpecs:
    """Every parameter of `BeitForImageClassification(config)`, by name."""
    width = config.hidden_size
    head = p.normal(config.initializer_range * HEAD_SCALE)
    return {
        **encoder_specs(config),
        **p.norm("fc_norm" if config.use_mean_pooling else "norm", width),
        **p.linear("head", width, config.num_labels, weight=head),
    }


def encoder_specs(config: BeitConfig) -> p.ParamSpecs:
    """Embedding, tables and blocks: what pretraining and classifiers share."""
    width = config.hidden_size
    specs = {
        "cls_token": p.ParamSpec((1, 1, width), p.normal(config.initializer_range)),
        **p.patch_embed(config.num_channels, config.patch_size, width),
    }
    if config.use_shared_relative_position_bias:
        specs[SHARED_TABLE] = _table(config)
    for i in range(config.num_hidden_layers):
        specs |= _block(config, i)
    return specs


def block_table(i: int) -> str:
    """The name of block i's own table."""
    return f"blocks.{i}.attn.{TABLE}"


def _block(config: BeitConfig, i: int) -> p.ParamSpecs:
    name, width, std = f"blocks.{i}", config.hidden_size, config.initializer_range
    specs = p.block(name, width, config.intermediate_size, weight=p.normal(std), qkv_bias=False)
    for last in (f"{name}.attn.proj.weight", f"{name}.mlp.fc2.weight"):
        specs[last] = p.ParamSpec(specs[last].shape, p.normal(std / math.sqrt(2 * (i + 1))))
    if config.qkv_bias:
        specs[f"{name}.attn.q_bias"] = p.ParamSpec((width,), p.zeros)
        specs[f"{name}.attn.v_bias"] = p.ParamSpec((width,), p.zeros)
    if config.use_relative_position_bias:
        specs[block_table(i)] = _table(config)
    if config.layer_scale_init_value > 0:
        scale = p.constant(config.layer_scale_init_value)
        specs[f"{name}.gamma_1"] = p.ParamSpec((width,), scale)
        specs[f"{name}.gamma_2"] = p.ParamSpec((width,), scale)
    return specs


def _table(config: BeitConfig) -> p.ParamSpec:
    return p.ParamSpec((table_rows(config.grid), config.num_attention_heads), p.zeros)
