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
    return {
        "cls_token": p.ParamSpec((1, 1, width), p.normal(config.initializer_range)),
        "pos_embed": _position(config, width),
        **p.patch_embed(config.num_channels, config.patch_size, width, weight=p.xavier_uniform),
        **p.blocks("blocks", config, weight=p.xavier_uniform),
        **p.norm("norm", width),
    }


def _decoder_specs(config: ViTMAEConfig) -> p.ParamSpecs:
    width = config.decoder_hidden_size
    xavier = p.xavier_uniform
    return {
        "mask_token": p.ParamSpec((1, 1, width), p.normal(config.initializer_range)),
        **p.linear("decoder_embed", config.hidden_size, width, weight=xavier),
        "decoder_pos_embed": _position(config, width),
        **p.blocks("decoder_blocks", config.decoder, weight=xavier),
        **p.norm("decoder_norm", width),
        **p.linear("decoder_pred", width, config.patch_pixels, weight=xavier),
    }


def _position(config: ViTMAEConfig, width: int) -> p.ParamSpec:
    shape = (1, config.num_patches + 1, width)
    return p.ParamSpec(shape, p.fixed(partial(sincos_2d, width, config.grid)), trainable=False)
