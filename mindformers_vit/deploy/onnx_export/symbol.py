"""A value of the graph in the place of a tensor, so that a network's own code writes the graph.

It knows the few methods of a tensor that the networks use, all in float32. Only the size of the
batch may be open: it is a `Batch`, everything else an int.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mindformers_vit.deploy.onnx_export.graph import Array, Graph
from mindformers_vit.errors import ExportError

AXES_ARE_INPUT = 18  # the first opset where a reduction takes its axes as a value


@dataclass(frozen=True)
class Batch:
    """The number of images, times a known number."""

    times: int = 1

    def __mul__(self, other: int) -> Batch:
        return Batch(self.times * other)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return "batch" if self.times == 1 else f"{self.times}*batch"


Dim = int | Batch
Shape = tuple[Dim, ...]


@dataclass(frozen=True, eq=False)
class Product:
    """x W + b with constants: W (in, out), b (out,) or None, and their names."""

    weight: Array
    name: str
    bias: Array | None = None
    bias_name: str = ""


class Symbol:
    """A float32 value of the graph.

    Attributes:
        graph: that it belongs to.
        name: in the graph.
        shape: of ints, and `Batch` on at most one axis.
        source: (operator, the value it was made from, how), if that may be of use: "Reshape" with
            the shape, "Transpose" with the axes, "Product" with the constants.
    """

    def __init__(
        self,
        graph: Graph,
        name: str,
        shape: Shape,
        source: tuple[str, Symbol, Any] | None = None,
    ) -> None:
        self.graph, self.name, self.shape, self.source = graph, name, shape, source

    def __getattr__(self, name: str) -> NoReturn:
        raise ExportError(
            f"the network uses Tensor.{name}, which the ONNX export does not know; "
            f"see docs/adding_a_model.md"
        )

    def emit(
        self,
        op_type: str,
        *more: str,
        shape: Shape | None = None,
        source: tuple[str, Symbol, Any] | None = None,
        **attributes: Any,
    ) -> Symbol:
        """A node whose first input is this value; the shape is this value's unless given."""
        name = self.graph.emit(op_type, self.name, *more, **attributes)
        return Symbol(self.graph, name, self.shape if shape is None else shape, source)

    # ---- methods of a tensor

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def astype(self, _: Any) -> Symbol:
        """Everything is float32; another precision is made of the finished file."""
        return self

    def reshape(self, *shape: Any) -> Symbol:
        target = _resolved(self.shape, shape[0] if isinstance(shape[0], tuple) else shape)
        root = self
        while root.source is not None and root.source[0] == "Reshape":
            root = root.source[1]
        if target == root.shape:
            return root
        numbers = [_number(dim, self.graph.batch_size) for dim in target]
        constant = self.graph.constant(np.array(numbers, np.int64))
        return root.emit("Reshape", constant, shape=target, source=("Reshape", root, target))

    def transpose(self, *axes: int) -> Symbol:
        if self.source is not None and self.source[0] == "Transpose":
            _, root, first = self.source
            return root.transpose(*(first[axis] for axis in axes))
        if axes == tuple(range(self.ndim)):
            return self
        shape = tuple(self.shape[axis] for axis in axes)
        return self.emit("Transpose", perm=axes, shape=shape, source=("Transpose", self, axes))

    def mean(self, axis: int) -> Symbol:
        return self.reduce("ReduceMean", axis)

    def reduce(self, op_type: str, axis: int, *, keep: bool = False) -> Symbol:
        """ReduceMean or ReduceMax over one axis, which goes, or stays with size 1."""
        axis %= self.ndim
        kept: Shape = (1,) if keep else ()
        shape = (*self.shape[:axis], *kept, *self.shape[axis + 1 :])
        if self.graph.opset < AXES_ARE_INPUT:
            return self.emit(op_type, axes=[axis], keepdims=int(keep), shape=shape)
        axes = self.graph.constant(np.array([axis], np.int64))
        return self.emit(op_type, axes, keepdims=int(keep), shape=shape)

    def __getitem__(self, key: Any) -> Symbol:
        value, dropped = self, 0
        for axis, part in enumerate(key if isinstance(key, tuple) else (key,)):
            if isinstance(part, int):
                value = value.take(part, axis - dropped)
                dropped += 1
            elif part != slice(None):
                value = value.cut(part, axis - dropped)
        return value

    def take(self, index: int, axis: int) -> Symbol:
        """One entry along an axis, which goes."""
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        constant = self.graph.constant(np.array(index, np.int64))
        return self.emit("Gather", constant, axis=axis, shape=shape)

    def cut(self, part: slice, axis: int) -> Symbol:
        """A slice without steps along an axis."""
        first, last, step = part.indices(_known(self.shape[axis]))
        assert step == 1, "a slice with steps"
        shape = (*self.shape[:axis], last - first, *self.shape[axis + 1 :])
        bounds = (self.graph.constant(np.array([n], np.int64)) for n in (first, last, axis))
        return self.emit("Slice", *bounds, shape=shape)

    def times(self, product: Product) -> Symbol:
        """(..., in) -> (..., out)."""
        weight = self.graph.constant(product.weight, product.name)
        shape = (*self.shape[:-1], product.weight.shape[1])
        made = self.emit("MatMul", weight, shape=shape)
        if product.bias is not None:
            made = made.emit("Add", self.graph.constant(product.bias, product.bias_name))
        made.source = ("Product", self, product)
        return made

    # ---- arithmetic

    def __add__(self, other: Any) -> Symbol:
        return self.combine("Add", other, neutral=0.0)

    def __mul__(self, other: Any) -> Symbol:
        return self.combine("Mul", other, neutral=1.0)

    def __truediv__(self, other: Any) -> Symbol:
        return self.combine("Div", other, neutral=1.0)

    __radd__, __rmul__ = __add__, __mul__

    def combine(self, op_type: str, other: Any, neutral: float) -> Symbol:
        """An operator of two values; a constant that changes nothing is left out."""
        if isinstance(other, Symbol):
            return self.emit(op_type, other.name, shape=_broadcast(self.shape, other.shape))
        array = to_array(other)
        if array.size == 1 and float(array.reshape(())) == neutral:
            return self
        shape = _broadcast(self.shape, array.shape)
        return self.emit(op_type, self.graph.constant(array, name_of(other)), shape=shape)


def to_array(value: Any) -> Array:
    """A number, an array, or a tensor of MindSpore as a float32 array."""
    array = value.asnumpy() if hasattr(value, "asnumpy") else value
    return np.asarray(array, np.float32)


def name_of(value: Any) -> str:
    """A parameter's own name; "" for anything else."""
    return str(getattr(value, "name", "") or "")


def _known(dim: Dim) -> int:
    assert isinstance(dim, int), "the batch axis is not cut or indexed"
    return dim


def _number(dim: Dim, batch_size: int | None) -> int:
    """The number in a shape's constant; -1 for an open batch."""
    if isinstance(dim, int):
        return dim
    return -1 if batch_size is None else dim.times * batch_size


def _resolved(source: Shape, target: Sequence[Dim]) -> Shape:
    """The target shape with its -1 replaced."""
    if -1 not in target:
        return tuple(target)
    given = [dim for dim in target if dim != -1]
    whole, part = math.prod(map(_times, source)), math.prod(map(_times, given))
    assert whole % part == 0, f"{source} does not become {target}"
    is_open = _has_batch(source) and not _has_batch(given)
    rest: Dim = Batch(whole // part) if is_open else whole // part
    return tuple(rest if dim == -1 else dim for dim in target)


def _has_batch(dims: Sequence[Dim]) -> bool:
    return any(isinstance(dim, Batch) for dim in dims)


def _times(dim: Dim) -> int:
    return dim.times if isinstance(dim, Batch) else dim


def _broadcast(first: Sequence[Dim], second: Sequence[Dim]) -> Shape:
    length = max(len(first), len(second))
    padded = [(1,) * (length - len(shape)) + tuple(shape) for shape in (first, second)]
    found: list[Dim] = []
    for a, b in zip(*padded, strict=True):
        assert a == b or 1 in (a, b), f"{first} and {second} do not fit together"
        found.append(b if a == 1 else a)
    return tuple(found)
