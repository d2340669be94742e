"""How one layer is written in ONNX, for the layers whose code is made for MindSpore on CPU.

Everything between these layers (blocks, residuals, heads) is not described here: it is the
networks' own code, run with symbols. Where a layer here has several common forms, the one that
ATC and ONNX Runtime recognise and fuse is written.

Legend: B batch, C channels, D width, T tokens, h heads, d head width, P patch, N patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from mindspore import nn

from mindformers_vit.deploy.onnx_export.graph import Array
from mindformers_vit.deploy.onnx_export.symbol import Product, Symbol, name_of, to_array
from mindformers_vit.errors import ExportError
from mindformers_vit.models.layers.attention import ScaledDotProduct
from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.layer_scale import ScaleChannels
from mindformers_vit.models.layers.linear import BiasAdd, Linear
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import PatchEmbed
from mindformers_vit.models.lvvit.lvvit_stem import ConvStem
from mindformers_vit.models.smlpnet.smlpnet_layers import DepthwiseConv, Downsample, PointwiseConv

FUSED_LAYER_NORM, FUSED_GELU = 17, 20  # the first opsets that have them
PATCHIFY = (0, 2, 4, 3, 5, 1)
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def gelu(_: Gelu, x: Symbol) -> Symbol:
    """0.5·x·(1 + erf(x/√2)), below `FUSED_GELU` written as PyTorch exports it."""
    if x.graph.opset >= FUSED_GELU:
        return x.emit("Gelu")
    inner = (x / math.sqrt(2.0)).emit("Erf") + 1.0
    return x * inner * 0.5


def layer_norm(cell: LayerNorm, x: Symbol) -> Symbol:
    """Over the last axis."""
    gamma, beta = (x.graph.constant(to_array(p), p.name) for p in (cell.gamma, cell.beta))
    if x.graph.opset >= FUSED_LAYER_NORM:
        return x.emit("LayerNormalization", gamma, beta, axis=-1, epsilon=cell.eps)
    centred = x.emit("Sub", x.reduce("ReduceMean", -1, keep=True).name)
    two = x.graph.constant(np.array(2.0, np.float32))
    variance = centred.emit("Pow", two).reduce("ReduceMean", -1, keep=True)
    deviation = (variance + cell.eps).emit("Sqrt")
    return centred.emit("Div", deviation.name).emit("Mul", gamma).emit("Add", beta)


def linear(cell: Linear, x: Symbol) -> Symbol:
    """x Wᵀ + b; for two axes in one node."""
    weight = to_array(cell.weight)  # (out, in)
    shape = (*x.shape[:-1], weight.shape[0])
    if x.ndim > 2:
        return x.times(_product(weight.T, cell))
    more = [x.graph.constant(weight, cell.weight.name)]
    if cell.bias is not None:
        more.append(x.graph.constant(to_array(cell.bias), cell.bias.name))
    return x.emit("Gemm", *more, transB=1, shape=shape)


def _product(matrix: Array, cell: Linear | PointwiseConv) -> Product:
    """A layer's matrix (in, out) and bias."""
    if cell.bias is None:
        return Product(matrix, cell.weight.name)
    return Product(matrix, cell.weight.name, to_array(cell.bias), cell.bias.name)


def batch_norm(cell: BatchNorm, x: Symbol) -> Symbol:
    """By the moving statistics, over the last axis, as one factor and one summand."""
    scale, shift = _affine(cell)
    return x * scale + shift


def _affine(cell: BatchNorm) -> tuple[Array, Array]:
    scale = to_array(cell.gamma) / np.sqrt(to_array(cell.moving_variance) + np.float32(cell.eps))
    return scale, to_array(cell.beta) - to_array(cell.moving_mean) * scale


def bias_add(_: BiasAdd, x: Symbol, bias: Any) -> Symbol:
    return _on_rows(x, lambda rows: _biased(rows, bias))


def _biased(x: Symbol, bias: Any) -> Symbol:
    """A bias that comes apart from its product (BEiT's) belongs to it all the same."""
    if x.source is not None and x.source[0] == "Product" and x.source[2].bias is None:
        product = replace(x.source[2], bias=to_array(bias), bias_name=name_of(bias))
        return x.source[1].times(product)
    return x + bias


def scale_channels(_: ScaleChannels, x: Symbol, gamma: Any) -> Symbol:
    return _on_rows(x, lambda rows: rows * gamma)


def _on_rows(x: Symbol, function: Callable[[Symbol], Symbol]) -> Symbol:
    """A function of the last axis before the flattening to rows, not after it."""
    if x.source is not None and x.source[0] == "Reshape" and x.source[1].shape[-1] == x.shape[-1]:
        return function(x.source[1]).reshape(*x.shape)
    return function(x)


def patch_embed(cell: PatchEmbed, patches: Symbol) -> Symbol:
    """What `patchify` made of the images, and the projection: one convolution."""
    images, channel_axes = patches, None
    while images.source is not None:
        if images.source[0] == "Transpose":
            channel_axes = images.source[2]
        images = images.source[1]
    if channel_axes != PATCHIFY or images.ndim != 4:
        raise ExportError("PatchEmbed: its input is not what `patchify` makes of images")
    return _tokens(_patches(images, to_array(cell.proj.weight), cell.proj.weight, cell.proj.bias))


def _patches(x: Symbol, weight: Array, named: Any, bias: Any = None) -> Symbol:
    """A convolution (B, C, H, W) -> (B, D, H/P, W/P) whose stride P is its kernel."""
    return _convolution(x, weight, name_of(named), bias=bias, stride=weight.shape[-1], padding=0)


def _tokens(x: Symbol) -> Symbol:
    """(B, D, rows, columns) -> (B, N, D)."""
    b, d, rows, columns = x.shape
    return x.reshape(b, d, rows * columns).transpose(0, 2, 1)


def _convolution(
    x: Symbol, weight: Array, name: str, *, bias: Any, stride: int, padding: int, group: int = 1
) -> Symbol:
    """x (B, C, H, W), weight (D, C/group, k, k), bias a parameter, an array or None."""
    kernel = weight.shape[-1]
    more = [x.graph.constant(weight, name)]
    if bias is not None:
        more.append(x.graph.constant(to_array(bias), name_of(bias)))
    b, _, height, width = x.shape
    sides = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    return x.emit(
        "Conv", *more, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4,
        group=group, shape=(b, weight.shape[0], *sides),
    )  # fmt: skip


def conv_stem(cell: ConvStem, images: Symbol) -> Symbol:
    """Three convolutions with their batch norms folded in, then one token a patch."""
    x = images
    for conv, norm in ((cell.conv1, cell.bn1), (cell.conv2, cell.bn2), (cell.conv3, cell.bn3)):
        scale, shift = _affine(norm)
        weight = to_array(conv.weight) * scale[:, None, None, None]
        x = _convolution(
            x, weight, conv.weight.name, bias=shift, stride=conv.stride, padding=conv.kernel // 2
        ).emit("Relu")
    return _tokens(_patches(x, to_array(cell.proj.weight), cell.proj.weight, cell.proj.bias))


def downsample(cell: Downsample, x: Symbol) -> Symbol:
    """(B, P·H, P·W, in) -> (B, H, W, out)."""
    x = x.transpose(*TO_NCHW)
    return _patches(x, to_array(cell.weight), cell.weight).transpose(*TO_NHWC)


def depthwise(cell: DepthwiseConv, x: Symbol) -> Symbol:
    """(B, H, W, C) -> the same."""
    x = x.transpose(*TO_NCHW)
    weight = to_array(cell.weight)
    x = _convolution(
        x, weight, cell.weight.name, bias=None, stride=1, padding=1, group=weight.shape[0]
    )
    return x.transpose(*TO_NHWC)


def pointwise(cell: PointwiseConv, x: Symbol) -> Symbol:
    """A 1x1 convolution over the last axis."""
    weight = to_array(cell.weight).reshape(cell.width, cell.channels)
    return x.times(_product(weight.T, cell))


def attention(
    _: ScaledDotProduct, q: Symbol, k: Symbol, v: Symbol, *bias: Any
) -> tuple[Symbol, None]:
    """q, k, v (B, h, T, d), perhaps a bias (h, T, T) of the tokens that are no padding."""
    b, h, t, _ = q.shape
    added = to_array(bias[0]) if bias else None
    scores = q.emit("MatMul", k.transpose(0, 1, 3, 2).name, shape=(b, h, t, t))
    if q.graph.padding is not None:
        added = q.graph.padding.masked(added)
    if added is not None:
        scores = scores + added
    weights = scores.emit("Softmax", axis=-1)
    return weights.emit("MatMul", v.name, shape=q.shape), None


EMITTERS: dict[type[nn.Cell], Callable[..., Any]] = {
    Gelu: gelu,
    LayerNorm: layer_norm,
    Linear: linear,
    BatchNorm: batch_norm,
    BiasAdd: bias_add,
    ScaleChannels: scale_channels,
    PatchEmbed: patch_embed,
    ConvStem: conv_stem,
    Downsample: downsample,
    DepthwiseConv: depthwise,
    PointwiseConv: pointwise,
    ScaledDotProduct: attention,
}


def emitter_of(cell: nn.Cell) -> Callable[..., Any] | None:
    """The function that writes this kind of layer; None if its own code does."""
    return next((EMITTERS[kind] for kind in type(cell).__mro__ if kind in EMITTERS), None)
