"""Each layer against the plain formula, values and gradients, in graph mode."""

import math

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor, ops

from mindformers_vit.models.layers.attention import CpuScaledDotProduct, ScaledDotProduct
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import Linear
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_embed import patchify
from mindformers_vit.pipelines.pictures import unpatchify

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def gradients(cell, inputs, weight, params=()):
    """d(sum(cell(inputs) * weight)) by the inputs, and by the parameters."""

    def loss(*arrays):
        return (cell(*arrays) * weight).sum()

    positions = tuple(range(len(inputs)))
    grad = ms.grad(loss, positions, list(params) or None)
    result = ms.jit(grad)(*map(Tensor, inputs))
    by_inputs, by_params = result if params else (result, ())
    if not isinstance(by_inputs, tuple):
        by_inputs = (by_inputs,)
    return [g.asnumpy() for g in by_inputs], [g.asnumpy() for g in by_params]


def test_gelu_is_the_erf_one_to_a_millionth():
    x = np.concatenate([np.linspace(-12, 12, 400_001), [-1e4, 1e4, 0.0]]).astype(np.float32)
    x64 = torch.from_numpy(x).double()
    exact = (x64 * 0.5 * torch.erfc(-x64 / math.sqrt(2.0))).numpy()
    ours = ms.jit(Gelu())(Tensor(x)).asnumpy().astype(np.float64)
    allowed = 1e-6 * np.maximum(1, np.abs(exact) / 4)  # float32's own spacing above 4
    assert np.all(np.abs(ours - exact) <= allowed)
    assert np.abs(ours - exact)[np.abs(x) <= 4].max() <= 8e-7


def test_gelu_gradient_is_the_true_derivative():
    x = np.concatenate([np.linspace(-12, 12, 200_001), [-1e4, 1e4]]).astype(np.float32)
    x64 = torch.from_numpy(x).double().requires_grad_()
    (x64 * 0.5 * torch.erfc(-x64 / math.sqrt(2.0))).sum().backward()
    (ours,), _ = gradients(Gelu(), [x], Tensor(np.ones_like(x)))
    assert np.abs(ours - x64.grad.numpy()).max() <= 1e-6


def test_linear_equals_torch_with_gradients():
    x, w, b, weight = normal(2, 5, 8), normal(6, 8), normal(6), normal(2, 5, 6)
    layer = Linear(8, 6)
    layer.weight.set_data(Tensor(w))
    layer.bias.set_data(Tensor(b))
    (dx,), (dw, db) = gradients(layer, [x], Tensor(weight), [layer.weight, layer.bias])
    tx, tw, tb = (torch.from_numpy(a).requires_grad_() for a in (x, w, b))
    y = torch.nn.functional.linear(tx, tw, tb)
    (y * torch.from_numpy(weight)).sum().backward()
    np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), y.detach(), atol=1e-5)
    for ours, theirs in ((dx, tx), (dw, tw), (db, tb)):
        np.testing.assert_allclose(ours, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_layer_norm_equals_torch_with_gradients(offset):
    x, g, b, weight = (
        normal(3, 7, 32) + np.float32(offset),
        normal(32),
        normal(32),
        normal(3, 7, 32),
    )
    layer = LayerNorm(32, eps=1e-6)
    layer.gamma.set_data(Tensor(g))
    layer.beta.set_data(Tensor(b))
    (dx,), (dg, db) = gradients(layer, [x], Tensor(weight), [layer.gamma, layer.beta])
    tx, tg, tb = (torch.from_numpy(a).requires_grad_() for a in (x, g, b))
    y = torch.nn.functional.layer_norm(tx, (32,), tg, tb, eps=1e-6)
    (y * torch.from_numpy(weight)).sum().backward()
    np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), y.detach(), atol=2e-5)
    for ours, theirs in ((dx, tx), (dg, tg), (db, tb)):
        np.testing.assert_allclose(ours, theirs.grad, atol=1e-4)


def test_attention_gradient_written_out_equals_the_framework_s():
    q, k, v, weight = (normal(2, 3, 5, 4) for _ in range(4))

    class First(ms.nn.Cell):
        def __init__(self, core):
            super().__init__()
            self.core = core

        def construct(self, q, k, v):
            return self.core(q, k, v)[0]

    ours, _ = gradients(First(CpuScaledDotProduct()), [q, k, v], Tensor(weight))
    plain, _ = gradients(First(ScaledDotProduct()), [q, k, v], Tensor(weight))
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_patches_are_rows_of_row_column_channel():
    images = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    patches = patchify(Tensor(images), 2)
    assert patches.shape == (2, 6, 12)
    expected = [images[0, c, r, 2 + w] for r in (0, 1) for w in (0, 1) for c in (0, 1, 2)]
    np.testing.assert_array_equal(patches.asnumpy()[0, 1], expected)
    np.testing.assert_array_equal(patches.asnumpy(), patchify(images, 2))
    pictures = [unpatchify(each, (4, 6), 2).transpose(2, 0, 1) for each in patches.asnumpy()]
    np.testing.assert_array_equal(pictures, images)
    assert ops.shape(patches) == (2, 6, 12)
