"""Compiling the blocks of a trunk once where they differ in their weights alone.

A third of the time and memory that compiling a deep network takes. It is what MindSpore's decorator
`lazy_inline(policy="front")` marks; its manual names Ascend alone, where it was not tried:
CPU only. It believes the marks: a block that was changed would get the first one's graph,
with no word. So they are there only while a training step is compiled, on blocks found alike then.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from mindformers_vit import compat

_keys = itertools.count()
_PLAIN = (bool, int, float, str, tuple, type(None))


@contextlib.contextmanager
def shared_graphs(network: nn.Cell) -> Iterator[None]:
    """Inside, what compiles `network` compiles a block for all of its trunk, if they are alike."""
    marked: list[nn.Cell] = []
    for _, cell in network.cells_and_names():
        if getattr(cell, "alike", False) and compat.device() == "CPU" and _are_alike(list(cell)):
            key = f"lazy_inline_{next(_keys)}"
            for block in cell:
                block.no_inline, block.cell_init_args = False, key
                marked.append(block)
    try:
        yield
    finally:
        for block in marked:
            del block.no_inline, block._cell_init_args


def _are_alike(blocks: list[nn.Cell]) -> bool:
    if len(blocks) < 2:
        return False
    found = [_structure(block) for block in blocks]
    return found[0] is not None and all(other == found[0] for other in found)


def _structure(block: nn.Cell) -> list[Any] | None:
    """All but the weights' values; None: it holds what cannot be compared, as hooks."""
    found: list[Any] = []
    for name, cell in block.cells_and_names():
        held = vars(cell)
        if any("hook" in key and value for key, value in held.items()) or "construct" in held:
            return None
        params = [
            (key, None if p is None else (p.shape, p.dtype, p.requires_grad))
            for key, p in cell._params.items()
        ]
        found.append((name, type(cell), params, _recomputes(held)))
        found += [(key, _value(v)) for key, v in held.items() if not key.startswith("_")]
        found += [(key, _value(p)) for key, p in cell._primitives.items()]
    return found


def _recomputes(held: dict[str, Any]) -> tuple[bool, bool]:
    return held.get("_recompute_cell") is not None, bool(held.get("_has_config_recompute"))


def _value(value: Any) -> Any:
    """What is compared of an attribute: plain values, tensors and operators; else the identity."""
    if isinstance(value, ms.Tensor):
        return value.shape, value.asnumpy().tobytes()
    if isinstance(value, ops.Primitive):
        return type(value), value.name, str(value.attrs)
    return value if isinstance(value, _PLAIN) else id(value)
