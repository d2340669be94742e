"""A classifier's `construct`, run once with symbols, written as an ONNX model.

MindSpore's own exporter refuses these networks and could only write opset 11
(docs/architecture.md). Here cells and the few functions of `mindspore.ops` that the networks call
are redirected while the network runs; no second description of a network is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import onnx
from mindspore import nn, ops

from mindformers_vit.deploy.onnx_export.graph import Graph, Padding, value_info
from mindformers_vit.deploy.onnx_export.layers import emitter_of
from mindformers_vit.deploy.onnx_export.projections import separate
from mindformers_vit.deploy.onnx_export.symbol import Batch, Dim, Symbol, to_array
from mindformers_vit.errors import ExportError
from mindformers_vit.kernels.cells import plain_operators


@dataclass(frozen=True)
class GraphOptions:
    """How a network is written.

    Attributes:
        opset: 11 to 20; layer norm is one node from 17 on, GELU at 20, their parts below.
        batch_size: images of a run; None: any number.
        input_name, output_name: in the file.
        pad_tokens_to: number of tokens in the blocks; None: as many as the network has.
        pixel_scale, pixel_shift: (C,) each; the input is uint8 and is normalised in the graph.
    """

    opset: int = 11
    batch_size: int | None = 1
    input_name: str = "image"
    output_name: str = "output"
    pad_tokens_to: int | None = None
    pixel_scale: Sequence[float] | None = None
    pixel_shift: Sequence[float] | None = None


def trace(network: Any, options: GraphOptions) -> onnx.ModelProto:
    """The ONNX model of a classifier in evaluation.

    Raises:
        ExportError: the network does something that this export cannot write.
    """
    graph = Graph(options.opset, options.batch_size)
    channels, (height, width) = network.config.num_channels, network.config.image_hw
    shape: tuple[Dim, ...] = (Batch(), channels, height, width)
    images = Symbol(graph, options.input_name, shape)
    network.set_train(False)
    with plain_operators(network), _redirected(network, options.pad_tokens_to):
        logits = network.construct(_normalised(images, options))
    batch = "batch" if options.batch_size is None else options.batch_size
    kind = "float32" if options.pixel_scale is None else "uint8"
    inputs = [value_info(options.input_name, kind, [batch, channels, height, width])]
    output = value_info(options.output_name, "float32", [batch, logits.shape[1]])
    return graph.model(inputs, output, logits.name)


def _normalised(images: Symbol, options: GraphOptions) -> Symbol:
    """uint8 pixels as the network takes them, if that is wanted."""
    if options.pixel_scale is None or options.pixel_shift is None:
        return images
    scale, shift = (
        np.array(values, np.float32).reshape(1, -1, 1, 1)
        for values in (options.pixel_scale, options.pixel_shift)
    )
    return images.emit("Cast", to=onnx.TensorProto.FLOAT) * scale + shift


@contextmanager
def _redirected(network: Any, pad_tokens_to: int | None) -> Iterator[None]:
    """Cells and functions take symbols as well."""
    blocks = getattr(network, "blocks", None)
    if pad_tokens_to is not None and blocks is None:
        raise ExportError("pad_tokens_to: this network has no blocks of tokens")

    def call(cell: nn.Cell, *args: Any, **kwargs: Any) -> Any:
        is_first = pad_tokens_to is not None and cell is blocks[0]
        if is_first:
            args = (_pad(args[0], pad_tokens_to), *args[1:])
        emit = emitter_of(cell) if args and isinstance(args[0], Symbol) else None
        result = emit(cell, *args) if emit else cell.construct(*args, **kwargs)
        if pad_tokens_to is not None and cell is blocks[-1]:
            return result[:, : result.graph.padding.tokens]
        return result

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(nn.Cell, "__call__", call))
        for name, function in _FUNCTIONS.items():
            stack.enter_context(mock.patch.object(ops, name, _either(name, function)))
        yield


def _pad(x: Symbol, tokens: int | None) -> Symbol:
    """Zeros after the tokens (B, T, D)."""
    own = x.shape[1]
    assert isinstance(own, int)
    assert tokens is not None
    if tokens < own:
        raise ExportError(f"pad_tokens_to: {tokens} given, but the network has {own} tokens")
    x.graph.padding = Padding(own, tokens)
    return _zeros_around(x, 0, tokens - own) if tokens > own else x


def _zeros_around(x: Symbol, before: int, after: int) -> Symbol:
    """Zeros before and after axis 1 of three."""
    counts = x.graph.constant(np.array([0, before, 0, 0, after, 0], np.int64))
    own = x.shape[1]
    assert isinstance(own, int)
    return x.emit("Pad", counts, shape=(x.shape[0], own + before + after, x.shape[2]))


# ---- functions of mindspore.ops


class _Rows:
    """A parameter (1, 1, D) that is repeated for every image."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _tile(value: Any, times: tuple[Any, ...]) -> Any:
    if not isinstance(times[0], Batch) or times[1:] != (1, 1):
        raise ExportError(f"ops.tile by {times} is not known to the ONNX export")
    return _Rows(value)


def _cat(values: Sequence[Any], axis: int = 0) -> Symbol:
    """Along an axis; a repeated row in front is zeros there, and the row added to them.

    So the batch may be open without nodes that ask for its size.
    """
    first, *others = values
    if isinstance(first, _Rows):
        (rest,) = others
        row = np.zeros((1, rest.shape[1] + 1, rest.shape[2]), np.float32)
        row[:, 0] = to_array(first.value)
        return _zeros_around(rest, 1, 0) + row
    axis %= first.ndim
    size = sum(value.shape[axis] for value in values)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    return first.emit("Concat", *(value.name for value in others), axis=axis, shape=shape)


def _unstack(value: Symbol, axis: int = 0) -> list[Symbol]:
    parts = separate(value) if axis == 0 else None
    if parts is not None:
        return parts
    count = value.shape[axis]
    assert isinstance(count, int)
    return [value.take(index, axis) for index in range(count)]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tile": _tile,
    "cat": _cat,
    "unstack": _unstack,
    "amax": lambda value, axis: value.reduce("ReduceMax", axis),
    "relu": lambda value: value.emit("Relu"),
}


def _either(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` where a symbol is among the arguments, else MindSpore's own."""
    original = getattr(ops, name)

    def choose(first: Any, *rest: Any, **options: Any) -> Any:
        flat = [*(first if isinstance(first, list | tuple) else (first,)), *rest]
        flat += [item for part in rest if isinstance(part, tuple) for item in part]
        symbolic = any(isinstance(value, Symbol | Batch | _Rows) for value in flat)
        return (function if symbolic else original)(first, *rest, **options)

    return choose
