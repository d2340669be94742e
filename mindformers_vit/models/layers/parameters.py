"""What a network's parameters are: name -> shape and first value. Pure numpy, no MindSpore.

A family describes its parameters as data (`models/<name>/<name>_params.py`). From that come the
names and shapes a checkpoint is checked against before anything is built, and the initial values.

A value is a function of (seed, parameter name) alone: neither the order of construction nor any
global generator matters, and seed 0 is a seed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Shape = tuple[int, ...]
Init = Callable[[np.random.Generator, Shape], Array]


@dataclass(frozen=True)
class ParamSpec:
    """One parameter: its shape, how its first value is made, and whether training changes it."""

    shape: Shape
    init: Init
    trainable: bool = True


ParamSpecs = dict[str, ParamSpec]


def zeros(rng: np.random.Generator, shape: Shape) -> Array:
    """All 0."""
    return np.zeros(shape, np.float32)


def ones(rng: np.random.Generator, shape: Shape) -> Array:
    """All 1."""
    return np.ones(shape, np.float32)


def constant(value: float) -> Init:
    """All `value`."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        return np.full(shape, value, np.float32)

    return draw


def normal(std: float) -> Init:
    """N(0, std²). This is also timm's `trunc_normal_(std)`, whose bounds are the absolute ±2."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    return draw


def uniform(bound: float) -> Init:
    """U(-bound, bound)."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        return (rng.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)

    return draw


def xavier_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """U(±sqrt(6 / (fan_in + fan_out))) of the weight viewed as (shape[0], rest)."""
    fan_out, fan_in = shape[0], math.prod(shape[1:])
    return uniform(math.sqrt(6.0 / (fan_in + fan_out)))(rng, shape)


def torch_default(fan_in: int) -> Init:
    """U(±1/sqrt(fan_in)): PyTorch's default for weights and biases of Linear and Conv."""
    return uniform(1.0 / math.sqrt(fan_in))


def fixed(make: Callable[[], np.ndarray[Any, Any]]) -> Init:
    """Always the array that `make` returns, in the parameter's shape."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        return np.ascontiguousarray(make(), dtype=np.float32).reshape(shape)

    return draw


def initial_value(name: str, spec: ParamSpec, seed: int) -> Array:
    """The first value of the parameter `name`: a function of the seed and the name."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return spec.init(rng, spec.shape)


def shapes_of(specs: Mapping[str, ParamSpec]) -> dict[str, Shape]:
    """name -> shape, as `checkpoint.merge` expects it."""
    return {name: spec.shape for name, spec in specs.items()}


def count(specs: Mapping[str, ParamSpec], *, trainable_only: bool = False) -> int:
    """The number of values in all parameters."""
    chosen = (s for s in specs.values() if s.trainable or not trainable_only)
    return sum(math.prod(s.shape) for s in chosen)


def layer_id(name: str, num_layers: int) -> int:
    """The layer of a parameter, for layer-wise learning-rate decay (as BEiT and MAE have it).

    0 is what comes before the blocks, block i is i + 1, all the rest is `num_layers` + 1.
    """
    if name in {"cls_token", "pos_embed", "mask_token"} or name.startswith("patch_embed."):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return num_layers + 1


def linear(
    name: str, in_features: int, out_features: int, *, weight: Init, bias: bool = True
) -> ParamSpecs:
    """`name.weight` (out, in) and `name.bias` (out), the bias 0."""
    specs = {f"{name}.weight": ParamSpec((out_features, in_features), weight)}
    if bias:
        specs[f"{name}.bias"] = ParamSpec((out_features,), zeros)
    return specs


def norm(name: str, width: int) -> ParamSpecs:
    """`name.gamma` 1 and `name.beta` 0, both (width,)."""
    return {
        f"{name}.gamma": ParamSpec((width,), ones),
        f"{name}.beta": ParamSpec((width,), zeros),
    }


def batch_norm(name: str, width: int) -> ParamSpecs:
    """A `norm` with its moving statistics: those of N(0, 1) at first, changed without gradients."""
    return {**norm(name, width), **moving_statistics(name, width)}


def moving_statistics(name: str, width: int) -> ParamSpecs:
    """Those of a `batch_norm`, all that one without gamma and beta has."""
    return {
        f"{name}.moving_mean": ParamSpec((width,), zeros, trainable=False),
        f"{name}.moving_variance": ParamSpec((width,), ones, trainable=False),
    }


def block(name: str, width: int, hidden: int, *, weight: Init, qkv_bias: bool) -> ParamSpecs:
    """A pre-norm transformer block of `width` with an MLP of `hidden`."""
    return {
        **norm(f"{name}.norm1", width),
        **linear(f"{name}.attn.qkv", width, 3 * width, weight=weight, bias=qkv_bias),
        **linear(f"{name}.attn.proj", width, width, weight=weight),
        **norm(f"{name}.norm2", width),
        **linear(f"{name}.mlp.fc1", width, hidden, weight=weight),
        **linear(f"{name}.mlp.fc2", hidden, width, weight=weight),
    }


def blocks(name: str, config: Any, *, weight: Init) -> ParamSpecs:
    """`name.0`, `name.1`, ...: the blocks of a trunk with these settings (`TransformerConfig`)."""
    specs: ParamSpecs = {}
    for i in range(config.num_hidden_layers):
        specs |= block(
            f"{name}.{i}",
            config.hidden_size,
            config.intermediate_size,
            weight=weight,
            qkv_bias=config.qkv_bias,
        )
    return specs


def patch_embed(
    channels: int, patch_size: int, width: int, *, weight: Init | None = None
) -> ParamSpecs:
    """`patch_embed.proj` in convolution layout (D, C, P, P), as PyTorch would unless told."""
    default = torch_default(channels * patch_size**2)
    shape = (width, channels, patch_size, patch_size)
    return {
        "patch_embed.proj.weight": ParamSpec(shape, weight or default),
        "patch_embed.proj.bias": ParamSpec((width,), default),
    }
