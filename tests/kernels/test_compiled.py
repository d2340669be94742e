"""The compiled library itself, called without MindSpore: bits, threads, what is masked."""

import ctypes
import os
import signal

import numpy as np
import pytest

from mindformers_vit.kernels.build import MASKS, build

pytestmark = pytest.mark.fast
LIBRARIES = [(), *((name,) for name in MASKS)]


def call(compiled: ctypes.CDLL, name: str, *arrays: np.ndarray) -> None:
    """An operator as MindSpore calls it: inputs, then outputs."""
    count = len(arrays)
    shapes = [(ctypes.c_int64 * a.ndim)(*a.shape) for a in arrays]
    status = getattr(compiled, name)(
        count,
        (ctypes.c_void_p * count)(*[a.ctypes.data for a in arrays]),
        (ctypes.c_int * count)(*[a.ndim for a in arrays]),
        (ctypes.POINTER(ctypes.c_int64) * count)(*shapes),
        (ctypes.c_char_p * count)(*[str(a.dtype).encode() for a in arrays]),
        None,
        None,
    )
    assert status == (0 if all(a.dtype == np.float32 for a in arrays) else 1)


def outputs(compiled: ctypes.CDLL) -> list[np.ndarray]:
    """Some of everything: products, sums over rows, attention."""
    rng = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    products = []
    # by vectors, and by tiles where there are any, whose sums are longer
    for m, k, n, bound in ((301, 70, 90, 2e-5), (313, 270, 290, 8e-5)):
        x, w, b, dy = normal(m, k), normal(n, k), normal(n), normal(m, n)
        y, dx, dw, db = (np.zeros_like(a) for a in (dy, x, w, b))
        call(compiled, "linear_fp32", x, w, b, y)
        call(compiled, "linear_dx_fp32", dy, w, dx)
        call(compiled, "linear_dw_fp32", dy, x, dw)
        call(compiled, "column_sums", dy, db)
        assert np.abs(y - (x.astype(np.float64) @ w.T + b)).max() < bound
        assert np.abs(dx - dy.astype(np.float64) @ w).max() < bound
        assert np.abs(dw - dy.T.astype(np.float64) @ x).max() < 1e-4
        assert np.abs(db - dy.sum(0, dtype=np.float64)).max() < 1e-4
        products += [y, dx, dw, db]
    qkv = normal(3, 37, 3, 2, 16)
    out, sums, dqkv = normal(3, 37, 2, 16), normal(3, 2, 37), normal(3, 37, 3, 2, 16)
    call(compiled, "attention", qkv, out, sums)
    call(compiled, "attention_grad", qkv, out, sums, out, dqkv)
    qkv, bias = normal(3, 37, 3, 5, 16), normal(5, 37, 37)
    biased, biased_sums, by_qkv, by_bias = (
        normal(3, 37, 5, 16),
        normal(3, 5, 37),
        normal(*qkv.shape),
        normal(*bias.shape),
    )
    call(compiled, "attention", qkv, bias, biased, biased_sums)
    call(compiled, "biased_attention_grad", qkv, bias, biased, biased_sums, biased, by_qkv, by_bias)
    assert np.abs(by_bias.sum(-1)).max() < 1e-5  # what all of a row have in common changes nothing
    return [*products, out, sums, dqkv, biased, biased_sums, by_qkv, by_bias]


@pytest.mark.parametrize("without", LIBRARIES)
def test_threads_and_repetition_change_no_bit(without, tmp_path):
    path = build(without)
    copy = tmp_path / "alone.so"  # a library of its own keeps one thread
    copy.write_bytes(path.read_bytes())
    alone, several = ctypes.CDLL(str(copy)), ctypes.CDLL(str(path))
    assert alone.start(1) == several.start(4) == 0
    first = outputs(alone)
    for _ in range(20):
        for a, b in zip(first, outputs(several), strict=True):
            assert a.tobytes() == b.tobytes()


def test_a_fork_has_the_operators_too():
    compiled = ctypes.CDLL(str(build()))
    assert compiled.start(4) == 0
    expected = outputs(compiled)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # should it wait for threads that it does not have
        found = outputs(compiled)
        same = all(a.tobytes() == b.tobytes() for a, b in zip(expected, found, strict=True))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("without", LIBRARIES)
@pytest.mark.parametrize(("m", "n"), [(70, 45), (313, 280)])  # by vectors, and by tiles
def test_products_have_the_accuracy_of_float32(without, m, n):
    """Also where they are made of bf16: of positive numbers, whose roundings do not cancel, of
    numbers of all sizes, and in every element."""
    compiled = ctypes.CDLL(str(build(without)))
    assert compiled.start(2) == 0
    rng = np.random.default_rng(2)
    x, w = (rng.uniform(0.5, 2.0, (rows, 2000)).astype(np.float32) for rows in (m, n))
    x[35:], w[20:] = x[35:] ** 40, -(w[20:] ** -30)
    y = np.zeros((m, n), np.float32)
    call(compiled, "linear_fp32", x, w, y)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    error = np.abs(y / exact - 1)
    assert error[:70, :45].max() < 1e-6
    by_tiles = m > 70 and compiled.tiles()  # which add up six numbers where vectors add one
    assert error.max() < (1.5e-6 if by_tiles else 5e-7)
    one = np.eye(n, dtype=np.float32)  # the products alone: each of one number
    call(compiled, "linear_dx_fp32", np.ascontiguousarray(x[:, :n]), one, y)
    assert y.tobytes() == x[:, :n].tobytes()


@pytest.mark.parametrize("without", LIBRARIES)
@pytest.mark.parametrize(("m", "k", "n"), [(3, 0, 2), (0, 4, 2), (3, 4, 0)])
def test_a_product_without_elements(without, m, k, n):
    compiled, bias = ctypes.CDLL(str(build(without))), np.arange(n, dtype=np.float32)
    x, w, y = np.ones((m, k), np.float32), np.ones((n, k), np.float32), np.ones((m, n), np.float32)
    call(compiled, "linear_fp32", x, w, bias, y)
    assert np.array_equal(y, np.tile(bias, (m, 1)))


def test_what_is_masked_is_not_there():
    masked = ctypes.CDLL(str(build(["AVX512"])))
    assert masked.lanes() <= 8 and not masked.has_bf16() and not masked.tiles()
    assert not ctypes.CDLL(str(build(["AMX"]))).tiles()


def test_another_type_is_refused():
    call(ctypes.CDLL(str(build())), "gelu", np.ones(3), np.ones(3))
