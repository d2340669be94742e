"""Each compiled operator beside float64 and beside the plain operators, values and gradients."""

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Parameter, Tensor, nn

from mindformers_vit import compat
from mindformers_vit.kernels import cells, library
from mindformers_vit.models.beit.beit_attention import BeitAttention
from mindformers_vit.models.beit.relative_position import relative_position_index, table_rows
from mindformers_vit.models.layers.attention import Attention
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import Linear
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.models.layers.patch_errors import PatchErrors
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.groups import ParamRule

RNG = np.random.default_rng(11)
functional = torch.nn.functional


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(autouse=True)
def compiled():
    """These tests are of the compiled operators: without them they must not pass.

    Each draws the same numbers, whichever others run.
    """
    global RNG
    RNG = np.random.default_rng(11)
    compat.set_device("CPU")
    assert library.path() is not None, "no compiled operators: see the log for the reason"


class First(nn.Cell):
    """The first output of a cell of several."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs):
        return self.cell(*inputs)[0]


def results(cell: nn.Cell, inputs: list[np.ndarray], weight: np.ndarray | None = None) -> list:
    """The cell's output, then the gradients of sum(output * weight) by inputs and parameters."""
    tensors = [Tensor(x) for x in inputs]
    y = ms.jit(cell)(*tensors).asnumpy()
    weight = np.ones_like(y) if weight is None else weight
    params = cell.trainable_params()

    def loss(*arrays):
        return (cell(*arrays) * Tensor(weight)).sum()

    grads = ms.jit(ms.grad(loss, tuple(range(len(inputs))), params or None))(*tensors)
    by_inputs, by_params = grads if params else (grads, ())
    by_inputs = by_inputs if isinstance(by_inputs, tuple) else (by_inputs,)
    return [y, *(g.asnumpy() for g in (*by_inputs, *by_params))]


def exact(function, inputs: list[np.ndarray], weight: np.ndarray) -> list:
    """The same by torch in float64."""
    tensors = [torch.from_numpy(x).double().requires_grad_() for x in inputs]
    y = function(*tensors)
    (y * torch.from_numpy(weight).double()).sum().backward()
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def assert_close(found: list, expected: list, tolerance: float) -> None:
    """Errors relative to the largest value of each array."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        scale = max(1.0, np.abs(theirs).max())
        assert np.abs(ours - theirs).max() <= tolerance * scale


# below, at and beyond the tiles of every vector width; beyond the depth of a panel; by AMX; of more
# rows than are copied at once
MATRICES = [
    (1, 1, 1),
    (3, 5, 2),
    (14, 16, 32),
    (37, 53, 45),
    (15, 700, 33),
    (130, 330, 40),
    (313, 270, 290),
    (4100, 2100, 3),
]


@pytest.mark.parametrize(("m", "k", "n"), MATRICES)
def test_linear(m, k, n):
    x, w, b, weight = normal(m, k), normal(n, k), normal(n), normal(m, n)
    found = results(cells.made(cells.Linear), [x, w, b], weight)
    assert_close(found, exact(functional.linear, [x, w, b], weight), 2e-6)
    found = results(cells.made(cells.MatMul), [x, w], weight)
    assert_close(found, exact(functional.linear, [x, w], weight), 2e-6)


@pytest.mark.parametrize(("m", "k", "n"), MATRICES)
def test_linear_of_bf16_products_is_exact_to_its_roundings(m, k, n, monkeypatch):
    if not library.has_bf16():
        with pytest.raises(library.ConfigError, match="allowed here: fp32"):
            library.choose_matmul("bf16")
        return
    monkeypatch.setattr(library, "_matmul", "bf16")
    x, w, weight = normal(m, k), normal(n, k), normal(m, n)
    rounded = [torch.from_numpy(a).bfloat16().float().numpy() for a in (x, w, weight)]
    found = results(cells.made(cells.MatMul), [x, w], weight)
    assert_close(found, exact(functional.linear, rounded[:2], rounded[2]), 2e-6)


def test_gelu():
    x = np.concatenate([np.linspace(-12, 12, 40_001), [-1e4, 1e4, 0.0]]).astype(np.float32)
    y, dx = results(cells.made(cells.Gelu), [x])
    exact_y, exact_dx = exact(functional.gelu, [x], np.ones_like(x))
    assert np.all(np.abs(y - exact_y) <= 8e-7 * np.maximum(1, np.abs(exact_y) / 4))
    assert np.abs(dx - exact_dx).max() <= 1e-6


@pytest.mark.parametrize(("m", "k", "n"), MATRICES)
def test_linear_of_gelu(m, k, n):
    x, w, b, weight = normal(m, k), normal(n, k), normal(n), normal(m, n)

    def reference(x, w, b):
        return functional.linear(functional.gelu(x), w, b)

    found = results(cells.made(cells.GeluLinear), [x, w, b], weight)
    assert_close(found, exact(reference, [x, w, b], weight), 2e-6)


@pytest.mark.parametrize(("m", "d"), [(1, 1), (5, 3), (130, 45), (333, 768)])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_layer_norm(m, d, offset):
    x, g, b, weight = normal(m, d) + np.float32(offset), normal(d), normal(d), normal(m, d)

    def reference(x, g, b):
        return functional.layer_norm(x, (d,), g, b, 1e-6)

    found = results(First(cells.made(cells.LayerNorm, 1e-6)), [x, g, b], weight)
    assert_close(found, exact(reference, [x, g, b], weight), 2e-5)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("b", "n", "f"), [(2, 9, 192), (3, 5, 37)])
def test_patch_errors(b, n, f, normalised):
    pred, target, weight = normal(b, n, f), normal(b, n, f) * 3 + 5, normal(b, n)

    def reference(pred, target):
        if normalised:
            deviation = (target.var(-1, keepdim=True) + 1e-6).sqrt()
            target = (target - target.mean(-1, keepdim=True)) / deviation
        return ((pred - target) ** 2).mean(-1)

    cell = PatchErrors(f, normalised=normalised)
    inputs = [pred, target]
    assert_close(results(cell, inputs, weight), exact(reference, inputs, weight), 5e-6)
    with cells.plain_operators(cell):
        assert_close(results(cell, inputs, weight), exact(reference, inputs, weight), 5e-6)


def attention(qkv: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return out.permute(0, 2, 1, 3)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3, 1, 1), (2, 23, 3, 3, 8), (2, 197, 3, 2, 32)])
@pytest.mark.parametrize("size", [1.0, 20.0])
def test_attention(shape, size, biased):
    b, t, _, h, d = shape
    inputs, weight = [normal(*shape) * np.float32(size)], normal(b, t, h, d)
    if biased:
        inputs.append(normal(h, t, t) * np.float32(size))
    cell = cells.made(cells.BiasedAttention if biased else cells.Attention)
    found = results(First(cell), inputs, weight)
    assert_close(found, exact(attention, inputs, weight), 1e-5 * size)


def layers(width: int) -> nn.Cell:
    """All layers that have a compiled operator, in a row, with parameters of their own."""
    cell = nn.SequentialCell(
        LayerNorm(width, eps=1e-6), Attention(width, num_heads=3), Linear(width, 50), Gelu(),
        Linear(50, width, bias=False),
    )  # fmt: skip
    return filled(cell)


def filled(cell: nn.Cell) -> nn.Cell:
    rng = np.random.default_rng(3)
    for param in cell.trainable_params():
        # small enough that no softmax saturates, where rounding alone would decide
        values = 0.2 * rng.standard_normal(param.shape)
        param.set_data(Tensor(values.astype(np.float32)))
    return cell


def test_layers_with_the_operators_are_those_without():
    x, weight = normal(2, 19, 24), normal(2, 19, 24)
    own, plain = layers(24), layers(24)
    with cells.plain_operators(plain):
        assert own[1].has_kernel and not plain[1].has_kernel
        expected = results(plain, [x], weight)
    assert plain[1].has_kernel
    assert_close(results(own, [x], weight), expected, 1e-5)


def beit_attention(*, own: bool, compute_dtype: str = "float32") -> BeitAttention:
    """Of 3 x 4 patches and a class token, 24 wide, with random parameters."""
    index = Tensor(relative_position_index((3, 4)).astype(np.int32))
    rows = table_rows((3, 4)) if own else 0
    cell = BeitAttention(
        24, num_heads=3, qkv_bias=True, table_rows=rows, index=index, compute_dtype=compute_dtype
    )
    return filled(cell)


@pytest.mark.parametrize(("own", "shared"), [(True, False), (False, True), (True, True)])
def test_beit_attention_with_the_operator_is_that_without(own, shared):
    inputs, weight = [normal(2, 13, 24)], normal(2, 13, 24)
    if shared:
        inputs.append(normal(3, 13, 13))
    kernel, plain = beit_attention(own=own), beit_attention(own=own)
    with cells.plain_operators(plain):
        assert kernel.has_kernel and not plain.has_kernel
        expected = results(plain, inputs, weight)
    assert len(expected) == 1 + len(inputs) + 5 + own
    assert_close(results(kernel, inputs, weight), expected, 1e-5)


@pytest.mark.parametrize("cell", ["linear", "gelu", "norm", "attention", "biased"])
def test_what_is_not_a_number_stays_so(cell):
    is_attention = cell in ("attention", "biased")
    x = normal(*((2, 5, 3, 2, 8) if is_attention else (5, 16)))
    x[1 if is_attention else 2, 3] = np.nan
    made = {
        "linear": lambda: (cells.made(cells.MatMul), [x, normal(20, 16)]),
        "gelu": lambda: (cells.made(cells.Gelu), [x]),
        "norm": lambda: (First(cells.made(cells.LayerNorm, 1e-6)), [x, normal(16), normal(16)]),
        "attention": lambda: (First(cells.made(cells.Attention)), [x]),
        "biased": lambda: (First(cells.made(cells.BiasedAttention)), [x, normal(2, 5, 5)]),
    }
    found = results(*made[cell]())
    hit = found[0][1 if is_attention else 2]
    assert np.isnan(hit).any() and any(np.isnan(gradient).any() for gradient in found[1:])
    others = np.delete(found[0], 1 if is_attention else 2, axis=0)
    assert np.isfinite(others).all()


def test_a_bias_that_is_not_a_number_shows_in_its_row_and_head():
    bias = normal(2, 5, 5)
    bias[1, 3, 4] = np.nan
    out, _, dbias = results(First(cells.made(cells.BiasedAttention)), [normal(2, 5, 3, 2, 8), bias])
    for array in (out.transpose(2, 1, 0, 3), dbias):  # (h, T, ...)
        hit = np.isnan(array)
        assert hit[1, 3].all() and hit.sum() == hit[1, 3].size


@pytest.mark.parametrize("shape", [(1,), (7, 5), (40_001,)])
def test_sum_of_squares(shape):
    x = normal(*shape)
    found = cells.sum_of_squares()(Tensor(x)).asnumpy()[0]
    assert found == pytest.approx((x.astype(np.float64) ** 2).sum(), rel=1e-6)
    x[-1] = np.nan
    assert np.isnan(cells.sum_of_squares()(Tensor(x)).asnumpy()[0])


class Update(nn.Cell):
    """Reads a parameter before and after its update."""

    def __init__(self, value: np.ndarray) -> None:
        super().__init__()
        self.p = Parameter(Tensor(value), name="p")
        self.adamw = AdamW([self.p], [ParamRule("p", 0.5, 0.1)], betas=(0.9, 0.95))

    def construct(self, grad, lr):
        before = self.p * 1.0
        self.adamw((grad,), lr)
        return before, self.p * 1.0


def test_adamw_equals_torch_and_is_in_order_with_what_reads_the_parameter():
    value = normal(33, 7)
    update, expected = Update(value), torch.from_numpy(value.copy()).requires_grad_()
    assert update.adamw.has_kernel
    torch_adamw = torch.optim.AdamW([expected], 0.005, (0.9, 0.95), weight_decay=0.1)
    last = value
    for _ in range(6):
        grad = normal(33, 7)
        before, after = (t.asnumpy() for t in update(Tensor(grad), Tensor(0.01, ms.float32)))
        expected.grad = torch.from_numpy(grad)
        torch_adamw.step()
        assert before.tobytes() == last.tobytes()
        np.testing.assert_allclose(after, expected.detach().numpy(), rtol=0, atol=1e-6)
        assert update.p.asnumpy().tobytes() == after.tobytes()
        last = after


def test_pynative_mode_has_the_same_bits():
    cell, x = cells.made(cells.Gelu), Tensor(normal(100))
    compiled_y = ms.jit(cell)(x).asnumpy()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        assert cell(x).asnumpy().tobytes() == compiled_y.tobytes()
        assert ms.grad(cell)(x).shape == (100,)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


def test_float16_layers_take_the_plain_operators():
    assert not Linear(4, 4, compute_dtype="float16").multiply.has_kernel
    assert not Attention(4, num_heads=2, compute_dtype="float16").has_kernel
    assert not beit_attention(own=True, compute_dtype="float16").has_kernel
