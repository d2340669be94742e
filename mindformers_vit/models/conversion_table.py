"""Weight conversion as tables: rows of tensors, layouts of rows, both directions. Pure numpy.

What is in neither the table nor the network is a problem, and a layout with problems did not fit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.parameters import ParamSpecs, Shape, shapes_of

Array = np.ndarray[Any, Any]
Shapes = dict[str, Shape]
Style = Literal["torch", "huggingface", "mindformers"]
Configure = Callable[[Shapes], Any]  # our shapes as found -> the network's config

_HOLES = {"any": ".+"}  # every other name in braces stands for a number


@dataclass(frozen=True)
class Row:
    """One tensor of ours, or one for each number that `{i}` stands for.

    Attributes:
        theirs: its name in the file, "blocks.{i}.norm1.weight"; several names: tensors of one
            shape that ours has one after the other along its first axis.
        ours: its name in the network; None drops a tensor of the file on purpose (`{any}` in its
            name is any text), and it does not come back when reversed.
        transposed: theirs is (in, out) where ours is (out, in).
    """

    theirs: str | tuple[str, ...]
    ours: str | None
    transposed: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


@dataclass(frozen=True)
class Layout:
    """One way in which files name their tensors.

    `constants` are tensors of theirs that our settings give, name -> array, so we do not keep them:
    a file's must be equal, and reversed they are made again. Rows with `ours` None name them.
    """

    name: str
    rows: Sequence[Row]
    specs: Callable[[Any], ParamSpecs]  # config -> every parameter that there must be
    style: Style = "torch"
    constants: Callable[[Any, Shapes], dict[str, Array]] = field(default=lambda *_: {})

    @property
    def architecture(self) -> str:
        """The class in the name, "ViTForImageClassification" of "transformers, ViT..."."""
        return self.name.rpartition(" ")[2]


@dataclass
class Fit:
    """How a file and a layout fit: the renamed arrays, how many each row took, what is wrong."""

    layout: Layout
    arrays: dict[str, Array] = field(default_factory=dict)
    moved: Counter[Row] = field(default_factory=Counter)  # tensors of theirs
    problems: list[str] = field(default_factory=list)
    config: Any = None
    made: tuple[str, ...] = ()  # constants of theirs, made again


def same(*names: str) -> list[Row]:
    """Rows of tensors whose name does not change."""
    return [Row(name, name) for name in names]


def dropped(*names: str) -> list[Row]:
    """Rows of tensors that no network here has."""
    return [Row(name, None) for name in names]


def linear_rows(theirs: str, ours: str | None = None) -> list[Row]:
    """A Linear or Conv: `weight` and `bias`."""
    return [Row(f"{theirs}.{leaf}", f"{ours or theirs}.{leaf}") for leaf in ("weight", "bias")]


def norm_rows(theirs: str, ours: str | None = None) -> list[Row]:
    """A LayerNorm: weight is gamma, bias is beta."""
    ours = ours or theirs
    return [Row(f"{theirs}.weight", f"{ours}.gamma"), Row(f"{theirs}.bias", f"{ours}.beta")]


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


def to_ours(arrays: Mapping[str, Array], layout: Layout, configure: Configure) -> Fit:
    """A file's arrays under our names."""
    fit = Fit(layout)
    found: dict[str, tuple[Row, dict[int, Array]]] = {}
    for name, array in arrays.items():
        match = _row_of(name, layout.rows)
        if match is None:
            fit.problems.append(f"  + {name} {array.shape}: not in the table")
            continue
        row, part, target = match
        fit.moved[row] += 1
        if target is None:
            continue
        first, pieces = found.setdefault(target, (row, {}))
        if first != row or part in pieces:
            fit.problems.append(f"  + {name} {array.shape}: another tensor gives '{target}'")
        pieces[part] = array.T if row.transposed else array
    for target, (row, pieces) in found.items():
        _join(fit, target, row, pieces)
    _check(fit, {name: array.shape for name, array in fit.arrays.items()}, configure)
    if not fit.problems:
        shapes = {name: array.shape for name, array in fit.arrays.items()}
        constants = layout.constants(fit.config, shapes)
        fit.problems = [
            f"  ~ {name}: not the constant that it must be"
            for name, constant in constants.items()
            if name in arrays and not np.array_equal(arrays[name], constant)
        ]
    return fit


def to_theirs(arrays: Mapping[str, Array], layout: Layout, configure: Configure) -> Fit:
    """Our arrays under a file's names."""
    fit = Fit(layout)
    for name, array in arrays.items():
        row, holes = next(_rows_from(name, layout.rows), (None, {}))
        if row is None:
            fit.problems.append(f"  + {name} {array.shape}: not in the table")
            continue
        count = len(row.parts)
        if count > 1 and (array.ndim == 0 or array.shape[0] % count):
            fit.problems.append(f"  ~ {name} {array.shape}: not {count} equal parts")
            continue
        pieces = np.split(array, count) if count > 1 else [array]
        for part, piece in zip(row.parts, pieces, strict=True):
            fit.arrays[part.format(**holes)] = piece.T if row.transposed else piece
        fit.moved[row] += count
    shapes = {name: array.shape for name, array in arrays.items()}
    _check(fit, shapes, configure)
    if not fit.problems:
        constants = layout.constants(fit.config, shapes)
        fit.arrays |= constants
        fit.made = tuple(constants)
    return fit


def _join(fit: Fit, target: str, row: Row, pieces: Mapping[int, Array]) -> None:
    """Put the pieces of one tensor of ours together."""
    missing = [part for number, part in enumerate(row.parts) if number not in pieces]
    if missing:
        fit.problems.append(f"  - {target}: no {' and no '.join(missing)}")
        return
    ordered = [pieces[number] for number in range(len(row.parts))]
    if len({piece.shape for piece in ordered}) > 1 or (len(ordered) > 1 and not ordered[0].ndim):
        shapes = ", ".join(str(piece.shape) for piece in ordered)
        fit.problems.append(f"  ~ {target}: made of tensors of one shape, found {shapes}")
        return
    fit.arrays[target] = ordered[0] if len(ordered) == 1 else np.concatenate(ordered)


def _check(fit: Fit, shapes: Shapes, configure: Configure) -> None:
    """Compare our shapes with those of the network that they tell."""
    if fit.problems:
        return
    try:
        fit.config = configure(shapes)
        expected = shapes_of(fit.layout.specs(fit.config))
    except CheckpointError as error:
        fit.problems = [f"  {error}"]
        return
    fit.problems = [
        *(f"  - {name} {expected[name]}" for name in expected if name not in shapes),
        *(f"  + {name} {shapes[name]}" for name in shapes if name not in expected),
        *(
            f"  ~ {name}: {shapes[name]} found, {expected[name]} expected"
            for name in expected
            if name in shapes and tuple(shapes[name]) != tuple(expected[name])
        ),
    ]


def _row_of(name: str, rows: Sequence[Row]) -> tuple[Row, int, str | None] | None:
    """The row of a file's tensor, which of the row's parts it is, and our name for it."""
    for row in rows:
        for number, part in enumerate(row.parts):
            match = _pattern(part).fullmatch(name)
            if match is not None:
                return row, number, row.ours and row.ours.format(**match.groupdict())
    return None


def _rows_from(name: str, rows: Sequence[Row]) -> Any:
    """The rows that give a tensor of ours, with what stands in their braces."""
    for row in rows:
        match = _pattern(row.ours).fullmatch(name) if row.ours is not None else None
        if match is not None:
            yield row, match.groupdict()


@cache
def _pattern(template: str) -> re.Pattern[str]:
    def hole(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{_HOLES.get(match[1], '[0-9]+')})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", hole, re.escape(template)))
