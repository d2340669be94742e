"""The masked autoencoder's parameters as data: names, shapes, initial values. No MindSpore here.

Initial values as in the paper: Xavier uniform for every weight (the patch projection seen as a
matrix), N(0, 0.02²) for the two tokens, fixed sin-cos position embeddings.
"""

from __future__ import annotations

from functools import partial

from mindformers_vit.models.layers import parameters as p
from mindformers_vit.models.layers.pos_embed import sincos_2d
from mindformers_vit.models.mae.mae_config import ViTMAEConfig


def parameter_specs(config: ViTMAEConfig) -> p.ParamSpecs:
    """Every parameter of `ViTMAEForPreTraining(config)`, by name."""
    return {**encoder_specs(config), **_decoder_specs(config)}


def encoder_specs(config: ViTMAEConfig) -> p.ParamSpecs:
    """The encoder's part: what the published pretraining files hold."""
    width = config.hidden_size
    specs = {
        "cls_token": p.ParamSpec((1, 1, width), p.normal(config.initializer_range)),
        "pos_embed": _position(config, width),
        **p.patch_embed(
            "patch_embed", config.num_channels, config.patch_size, width, weight=p.xavier_uniform
        ),
    }
    for i in range(config.num_hidden_layers):
        specs |= p.block(
            f"blocks.{i}",
            width,
            config.intermediate_size,
            weight=p.xavier_uniform,
            qkv_bias=config.qkv_bias,
        )
    return specs | p.norm("norm", width)


def _decoder_specs(config: ViTMAEConfig) -> p.ParamSpecs:
    width = config.decoder_hidden_size
    xavier = p.xavier_uniform
    specs = {
        "mask_token": p.ParamSpec((1, 1, width), p.normal(config.initializer_range)),
        **p.linear("decoder_embed", config.hidden_size, width, weight=xavier),
        "decoder_pos_embed": _position(config, width),
    }
    for i in range(config.decoder_num_hidden_layers):
        specs |= p.block(
            f"decoder_blocks.{i}",
            width,
            config.decoder_intermediate_size,
            weight=xavier,
            qkv_bias=config.qkv_bias,
        )
    specs |= p.norm("decoder_norm", width)
    return specs | p.linear("decoder_pred", width, config.patch_pixels, weight=xavier)


def _position(config: ViTMAEConfig, width: int) -> p.ParamSpec:
    shape = (1, config.num_patches + 1, width)
    return p.ParamSpec(shape, p.fixed(partial(sincos_2d, width, config.grid)), trainable=False)
