"""Every full-size network's tensors under PyTorch's names: the published keys, shapes and counts.

Nothing is built: the tables are applied to arrays without memory.
"""

import dataclasses
import importlib
import math

import numpy as np
import pytest

from mindformers_vit.models.conversion_table import to_theirs
from mindformers_vit.models.infer_config import published
from mindformers_vit.registry import families, find_model

pytestmark = pytest.mark.fast

NAMES = [n for f in families() for n in f.variants if "_tiny_" not in n]
KEYS = {  # tensors in the published files, buffers and counters included
    "mae_vit_base_p16": 254,
    "mae_vit_large_p16": 398,
    "mae_vit_huge_p14": 494,
    "vit_base_p16": 152,
    "vit_large_p16": 296,
    "vit_huge_p14": 392,
    "beit_base_p16_224": 211,
    "beit_base_p16_384": 211,
    "beit_large_p16_224": 415,
    "beit_large_p16_384": 415,
    "beit_large_p16_512": 415,
    "lvvit_t": 160,
    "lvvit_s": 204,
    "lvvit_s_384": 204,
    "lvvit_m": 248,
    "lvvit_m_384": 248,
    "lvvit_m_448": 248,
    "lvvit_l": 292,
    "lvvit_l_448": 292,
    "lvvit_l_512": 292,
    "smlpnet_tiny": 583,
    "smlpnet_small": 847,
    "smlpnet_base": 847,
}


def linear(name, out, inside, bias=True):
    return {f"{name}.weight": (out, inside)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name, width):
    moving = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return norm(name, width) | moving | {f"{name}.num_batches_tracked": ()}


def blocks(name, depth, width, hidden, qkv_bias=True):
    keys = {}
    for i in range(depth):
        block = f"{name}.{i}"
        keys |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        keys |= linear(f"{block}.attn.qkv", 3 * width, width, qkv_bias)
        keys |= linear(f"{block}.attn.proj", width, width)
        keys |= linear(f"{block}.mlp.fc1", hidden, width)
        keys |= linear(f"{block}.mlp.fc2", width, hidden)
    return keys


def trunk(c, qkv_bias=True):
    width, patch, tokens = c.hidden_size, c.patch_size, c.num_patches + 1
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        **blocks("blocks", c.num_hidden_layers, width, c.intermediate_size, qkv_bias),
    }


def mae(c):
    tokens = c.num_patches + 1
    return {
        **trunk(c),
        **norm("norm", c.hidden_size),
        "mask_token": (1, 1, 512),
        **linear("decoder_embed", 512, c.hidden_size),
        "decoder_pos_embed": (1, tokens, 512),
        **blocks("decoder_blocks", 8, 512, 2048),
        **norm("decoder_norm", 512),
        **linear("decoder_pred", 3 * c.patch_size**2, 512),
    }


def vit(c):
    return trunk(c) | norm("fc_norm", c.hidden_size) | linear("head", 1000, c.hidden_size)


def beit(c):
    width, side = c.hidden_size, c.image_size // 16
    keys = trunk(c, qkv_bias=False) | norm("fc_norm", width) | linear("head", 1000, width)
    del keys["pos_embed"]
    for i in range(c.num_hidden_layers):
        names = ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")
        keys |= {f"blocks.{i}.{name}": (width,) for name in names}
        table = ((2 * side - 1) ** 2 + 3, c.num_attention_heads)
        keys[f"blocks.{i}.attn.relative_position_bias_table"] = table
        keys[f"blocks.{i}.attn.relative_position_index"] = (side**2 + 1,) * 2
    return keys


def lvvit(c):
    stem, width = c.stem_width, c.hidden_size
    keys = trunk(c, qkv_bias=False) | norm("norm", width)
    keys["patch_embed.proj.weight"] = (width, stem, 8, 8)
    for i, (channels, side) in enumerate(((3, 7), (stem, 3), (stem, 3)), 1):
        keys[f"patch_embed.conv{i}.weight"] = (stem, channels, side, side)
        keys |= batch_norm(f"patch_embed.bn{i}", stem)
    return keys | linear("head", 1000, width) | linear("aux_head", 1000, width)


def smlpnet(c):
    keys, k = {"to_patch_embedding.0.0.weight": (c.hidden_size, 3, 4, 4)}, 0
    for stage, depth in enumerate(c.depths):
        width, grid = c.hidden_size * 2**stage, 56 // 2**stage
        if stage:
            keys[f"to_patch_embedding.{stage}.0.weight"] = (width, width // 2, 2, 2)
        for _ in range(depth):
            token, channel = f"token_mix.{k}", f"channel_mix.{k}"
            keys |= batch_norm(f"{token}.0.conv_merge.BN", width)
            keys[f"{token}.0.conv_merge.Conv.weight"] = (width, 1, 3, 3)
            keys |= batch_norm(f"{token}.1.BN", width)
            for name in ("proj_h", "proh_w"):
                keys[f"{token}.1.{name}.weight"] = (grid, grid, 1, 1)
                keys[f"{token}.1.{name}.bias"] = (grid,)
            keys[f"{token}.1.fuse.weight"] = (width, 3 * width, 1, 1)
            keys |= norm(f"{channel}.1", width)
            keys |= linear(f"{channel}.2.net.0", 3 * width, width)
            keys |= linear(f"{channel}.2.net.3", width, 3 * width)
            k += 1
    width = 8 * c.hidden_size
    return keys | batch_norm("batch_norm", width) | linear("mlp_head.0", 1000, width)


EXPECTED = {"mae": mae, "vit": vit, "beit": beit, "lvvit": lvvit, "smlpnet": smlpnet}


def test_every_full_size_network_is_here():
    assert set(NAMES) == set(KEYS)


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes(name):
    family, _ = find_model(name)
    package = f"mindformers_vit.models.{family.name}"
    converter = importlib.import_module(f"{package}.convert_weight").CONVERTER
    config = family.config_class(**family.variants[name])
    specs = converter.specs(config)
    arrays = {n: np.broadcast_to(np.float32(0), spec.shape) for n, spec in specs.items()}
    layout = dataclasses.replace(converter.layouts[0], constants=lambda *_: {})
    fit = to_theirs(arrays, layout, lambda shapes: converter.configure(shapes, {}))
    assert fit.problems == []
    keys = EXPECTED[family.name](config)
    kept = {
        key: shape
        for key, shape in keys.items()
        if not key.endswith((".num_batches_tracked", ".relative_position_index"))
    }
    assert {key: array.shape for key, array in fit.arrays.items()} == kept
    assert len(keys) == KEYS[name]
    assert sum(math.prod(shape) for shape in kept.values()) == sum(
        math.prod(spec.shape) for spec in specs.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_come_back_from_the_shapes(name):
    """Heads, skip_lam and what else the shapes do not tell are those of the published network."""
    family, _ = find_model(name)
    package = f"mindformers_vit.models.{family.name}"
    converter = importlib.import_module(f"{package}.convert_weight").CONVERTER
    config = family.config_class(**family.variants[name])
    shapes = {n: spec.shape for n, spec in converter.specs(config).items()}
    assert converter.configure(shapes, {}) == config
    assert published(family, converter.tell(shapes)) == name
