"""Matrix products in float16; inputs, outputs, layer norms and softmax stay float32."""

from __future__ import annotations

import onnx

_KEPT = ("LayerNormalization", "ReduceMean", "Pow", "Sqrt", "Softmax")


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with float16 weights, by ONNX Runtime's own converter."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    kept = [*DEFAULT_OP_BLOCK_LIST, *_KEPT]
    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=kept))
    converted.topological_sort()  # its casts are appended at the end
    return converted.model
