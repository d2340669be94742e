"""q, k and v as three products, where a network makes them in one and takes them apart.

One product needs a transposition of everything and a copy of each part (2 % of ViT-B in ONNX
Runtime); the weights are constants, so they are taken apart instead.

Legend: B batch, T tokens, D width, h heads, d = D / h.
"""

from __future__ import annotations

from mindformers_vit.deploy.onnx_export.symbol import Product, Symbol

HEADS_FIRST = (2, 0, 3, 1, 4)  # (B, T, 3, h, d) -> (3, B, h, T, d)


def separate(value: Symbol) -> list[Symbol] | None:
    """The parts (B, h, T, d) of a value (3, B, h, T, d); None if it is not made like that."""
    stacked = _source(value, "Transpose", HEADS_FIRST)
    product = None if stacked is None else _source(stacked, "Reshape", stacked.shape)
    if stacked is None or product is None or product.source is None:
        return None
    kind, x, made = product.source
    if kind != "Product":
        return None
    b, t, count, heads, depth = stacked.shape
    parts = []
    for number in range(int(count)):  # type: ignore[arg-type]
        own = _columns(made, number, int(heads) * int(depth))  # type: ignore[arg-type]
        parts.append(x.times(own).reshape(b, t, heads, depth).transpose(0, 2, 1, 3))
    return parts


def _source(value: Symbol, op_type: str, details: object) -> Symbol | None:
    """What the value was made from, if by this operator in this way."""
    if value.source is None or value.source[0] != op_type or value.source[2] != details:
        return None
    return value.source[1]


def _columns(made: Product, number: int, width: int) -> Product:
    """The weights and the bias of some outputs."""
    own = slice(number * width, (number + 1) * width)
    bias = None if made.bias is None else made.bias[own]
    return Product(made.weight[:, own], f"{made.name}.{number}", bias, f"{made.bias_name}.{number}")
