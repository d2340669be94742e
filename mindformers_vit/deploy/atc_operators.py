"""ONNX operators that ATC's parser registers for opset 11 ("ai.onnx::11::Add").

Read from the open sources of CANN's ONNX plug-ins (`framework/onnx_plugin` of canndev): all of its
plain operators, and of those with parsers of their own the ones that classifiers use. Not whole.
"""

OPSET = 11
_NAMES = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh Ceil Cos Cosh Det Div Dropout Equal Erf Exp Expand
Floor GlobalAveragePool Greater Identity IsNaN Less LessOrEqual Log Mul Neg Not Or PRelu Pow
Range Reciprocal Relu Round ScatterND Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Tan Tanh
Tile Where
Cast Concat Conv Gather Gemm MatMul Pad ReduceMax ReduceMean Reshape Slice Softmax Transpose
"""
ATC_OPERATORS = frozenset(_NAMES.split())
