"""Weight conversion as tables: one row a tensor, in both directions. Needs torch, no MindSpore
unless a `.ckpt` is written or read.

A family's `convert_weight.py` lists the `Layout`s it knows; what is not in the table is an error,
and then nothing is written.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import CheckpointError, MindFormersViTError
from mindformers_vit.models.layers.parameters import Shape
from mindformers_vit.models.torch_files import CONTAINERS, read_torch, write_torch

Array = np.ndarray[Any, Any]
Shapes = dict[str, Shape]

_HOLE = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True)
class Row:
    """One tensor, or one for each number that `{i}` stands for.

    `ours` None drops a tensor of the file on purpose; it does not come back when reversed.
    """

    theirs: str  # "blocks.{i}.norm1.weight"
    ours: str | None  # "blocks.{i}.norm1.gamma"


@dataclass(frozen=True)
class Layout:
    """One way in which files name their tensors.

    `constants` are tensors of theirs that our settings give, name -> array, so we do not keep them:
    a file's must be equal, and reversed they are made again. Rows with `ours` None name them.
    """

    name: str
    rows: Sequence[Row]
    expected: Callable[[Shapes], Shapes]  # our shapes as found -> all the shapes there must be
    constants: Callable[[Shapes], dict[str, Array]] = field(default=lambda shapes: {})


def same(*names: str) -> list[Row]:
    """Rows of tensors whose name does not change."""
    return [Row(name, name) for name in names]


def linear_rows(name: str) -> list[Row]:
    """A Linear or Conv: nothing changes."""
    return same(f"{name}.weight", f"{name}.bias")


def norm_rows(name: str) -> list[Row]:
    """A LayerNorm: weight is gamma, bias is beta."""
    return [Row(f"{name}.weight", f"{name}.gamma"), Row(f"{name}.bias", f"{name}.beta")]


def batch_norm_rows(name: str) -> list[Row]:
    """A BatchNorm and its moving statistics; the count of batches is dropped."""
    renamed = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    moving = [Row(f"{name}.{theirs}", f"{name}.{ours}") for theirs, ours in renamed.items()]
    return [*norm_rows(name), *moving, Row(f"{name}.num_batches_tracked", None)]


def block_rows(name: str) -> list[Row]:
    """A transformer block, `name` containing `{i}`."""
    rows = norm_rows(f"{name}.norm1") + norm_rows(f"{name}.norm2")
    for linear in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        rows += linear_rows(f"{name}.{linear}")
    return rows


def convert_weight(
    torch_path: str | Path,
    mindspore_path: str | Path,
    layouts: Sequence[Layout],
    *,
    reversed: bool = False,
    containers: Sequence[str] = CONTAINERS,
    written_under: str = "model",
) -> str:
    """Convert a PyTorch file to ours, or ours to a PyTorch file if `reversed`.

    Args:
        torch_path: `.pth` and the like, a dict of tensors or one under a key of `containers`.
        mindspore_path: `.ckpt` or `.safetensors`.
        layouts: the layouts to try, in order.
        containers: keys that a file may hold its tensors under; the first one found counts.
        written_under: the key that a PyTorch file is written with.

    Returns:
        The name of the layout that fitted.

    Raises:
        CheckpointError: no layout fits (with what is unmapped, missing or of a wrong shape), or a
            file cannot be read or written. Nothing is written then.
    """
    if reversed:
        arrays, layout = to_theirs(read_weights(mindspore_path), layouts, str(mindspore_path))
        write_torch(torch_path, arrays, written_under)
    else:
        arrays, layout = to_ours(read_torch(torch_path, containers), layouts, str(torch_path))
        write_weights(mindspore_path, arrays)
    return layout.name


def to_ours(
    arrays: Mapping[str, Array], layouts: Sequence[Layout], where: str
) -> tuple[dict[str, Array], Layout]:
    """The arrays under our names, and the layout that fitted."""
    return _best([_attempt(arrays, layout, reverse=False) for layout in layouts], layouts, where)


def to_theirs(
    arrays: Mapping[str, Array], layouts: Sequence[Layout], where: str
) -> tuple[dict[str, Array], Layout]:
    """The arrays under their names, and the layout that fitted."""
    return _best([_attempt(arrays, layout, reverse=True) for layout in layouts], layouts, where)


def _attempt(
    arrays: Mapping[str, Array], layout: Layout, *, reverse: bool
) -> tuple[dict[str, Array], list[str]]:
    """The renamed arrays and the problems."""
    renamed: dict[str, Array] = {}
    shapes: Shapes = {}
    problems = []
    for name, array in arrays.items():
        found = _rename(name, layout.rows, reverse=reverse)
        if found is None:
            problems.append(f"  + {name} {array.shape}: not in the table")
        elif found:
            renamed[found] = array
            shapes[name if reverse else found] = array.shape
    if not problems:
        problems = _shape_problems(shapes, layout)
    if not problems:
        constants = layout.constants(shapes)
        if reverse:
            renamed |= constants
        else:
            problems = _constant_problems(arrays, constants)
    return renamed, problems


def _constant_problems(arrays: Mapping[str, Array], constants: Mapping[str, Array]) -> list[str]:
    return [
        f"  ~ {name}: not the constant that it must be"
        for name, constant in constants.items()
        if name in arrays and not np.array_equal(arrays[name], constant)
    ]


def _shape_problems(shapes: Shapes, layout: Layout) -> list[str]:
    try:
        expected = layout.expected(shapes)
    except CheckpointError as error:
        return [f"  {error}"]
    missing = [f"  - {name} {expected[name]}" for name in expected if name not in shapes]
    left = [f"  + {name} {shapes[name]}" for name in shapes if name not in expected]
    other = [
        f"  ~ {name}: {shapes[name]} found, {expected[name]} expected"
        for name in expected
        if name in shapes and tuple(shapes[name]) != tuple(expected[name])
    ]
    return missing + left + other


def _best(
    attempts: Sequence[tuple[dict[str, Array], list[str]]],
    layouts: Sequence[Layout],
    where: str,
) -> tuple[dict[str, Array], Layout]:
    for (renamed, problems), layout in zip(attempts, layouts, strict=True):
        if not problems:
            return renamed, layout
    nearest = min(range(len(layouts)), key=lambda i: len(attempts[i][1]))
    problems = attempts[nearest][1]
    more = [f"  ... {len(problems) - 40} more"] if len(problems) > 40 else []
    known = ", ".join(layout.name for layout in layouts)
    raise CheckpointError(
        f"{where}: this is none of the layouts known here ({known}); nothing was written. "
        f"Nearest is '{layouts[nearest].name}', with these differences:\n"
        + "\n".join(problems[:40] + more)
    )


def _rename(name: str, rows: Sequence[Row], *, reverse: bool) -> str | None:
    """The name on the other side; "" for a dropped tensor, None for an unknown one."""
    for row in rows:
        source, target = (row.ours, row.theirs) if reverse else (row.theirs, row.ours)
        if source is None:
            continue
        match = _pattern(source).fullmatch(name)
        if match is not None:
            return "" if target is None else target.format(**match.groupdict())
    return None


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_HOLE.sub(r"(?P<\1>\\d+)", re.escape(template)))


def main(convert: Callable[..., str], description: str, argv: Sequence[str] | None = None) -> int:
    """The command line of a family's `convert_weight.py`: 0 done, 2 not possible."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--torch_path", required=True, help="the PyTorch file (.pth)")
    parser.add_argument("--mindspore_path", required=True, help="our file: .ckpt or .safetensors")
    parser.add_argument("--reversed", action="store_true", help="from MindSpore to PyTorch")
    args = parser.parse_args(argv)
    try:
        layout = convert(args.torch_path, args.mindspore_path, reversed=args.reversed)
    except MindFormersViTError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    written = args.torch_path if args.reversed else args.mindspore_path
    print(f"{written} written ({layout})")
    return 0
