"""An ONNX graph while it is being written: nodes in order, constants by name. No MindSpore here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
MASK = -1e4  # added to a score it gives a weight of 0, in float16, too
_SMALL = 1024  # bytes of a constant that is worth looking for among those there are


@dataclass(frozen=True)
class Padding:
    """Tokens that are added for a device that wants multiples of 16, and never looked at."""

    tokens: int  # the network's own
    padded: int  # with those added

    def masked(self, bias: Array | None) -> Array:
        """The bias (h, T, T) of the scores for the padded tokens, whose keys get -10,000."""
        added = self.padded - self.tokens
        if bias is None:
            bias = np.zeros((1, 1, self.tokens), np.float32)
            rows = 0
        else:
            rows = added
        wider = np.pad(bias, ((0, 0), (0, rows), (0, added)))
        wider[..., self.tokens :] = MASK
        return wider


class Graph:
    """Nodes and constants of one model.

    Args:
        opset: version of the ONNX operators.
        batch_size: images of a run; None: any number.
    """

    def __init__(self, opset: int, batch_size: int | None) -> None:
        self.opset = opset
        self.batch_size = batch_size
        self.padding: Padding | None = None
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        output = f"{op_type}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(op_type, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, value: Array, name: str = "") -> str:
        """The name of a constant; a small one that is there already is used again."""
        array = np.asarray(value, order="C")  # ascontiguousarray would give a number an axis
        key = (str(array.dtype), array.shape, array.tobytes()) if array.nbytes <= _SMALL else None
        if key in self._small:
            return self._small[key]
        name = name or f"constant_{len(self._constants)}"
        while name in self._constants:
            name += "_"
        self._constants[name] = array
        if key is not None:
            self._small[key] = name
        return name

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], output: onnx.ValueInfoProto, made: str
    ) -> onnx.ModelProto:
        """The model whose output is the value `made`; nodes that lead nowhere are left out."""
        nodes = self._needed(made)
        nodes[-1].output[0] = output.name
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes, "mindformers_vit", list(inputs), [output],
            [numpy_helper.from_array(a, n) for n, a in self._constants.items() if n in used],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="mindformers_vit")
        model.ir_version = helper.find_min_ir_version_for(opsets)
        return model

    def _needed(self, made: str) -> list[onnx.NodeProto]:
        """The nodes that `made` depends on, in their order; it is the last."""
        wanted, found = {made}, []
        for node in reversed(self._nodes):
            if node.output[0] in wanted:
                wanted.update(node.input)
                found.append(node)
        return found[::-1]


def value_info(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Name, type ("float32", "uint8") and shape of an input or output."""
    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    return helper.make_tensor_value_info(name, kinds[dtype], list(shape))
